use proptest::prelude::*;

use super::*;

fn summary(text: &str) -> String {
    summarize(text, Dialect::Other).text
}

#[test]
fn a_summary_holds_operations_and_targets_in_order() {
    let table = [
        // The examples of the semantic conventions.
        ("SELECT *\nFROM wuser_table\nWHERE username = ?", "SELECT wuser_table"),
        (
            "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = ?",
            "INSERT shipping_details SELECT orders",
        ),
        (
            "SELECT * FROM songs, artists WHERE songs.artist_id == artists.id",
            "SELECT songs artists",
        ),
        (
            "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
            "SELECT SELECT orders customers",
        ),
        ("SELECT * FROM \"song list\", 'artists'", "SELECT \"song list\" 'artists'"),
        ("call some_stored_procedure(1)", "call some_stored_procedure"),
        // Queries.
        ("SELECT 1", "SELECT"),
        ("select Name from Users u, Roles AS r where u.id = r.id", "select Users Roles"),
        ("SELECT a, b FROM public.users", "SELECT public.users"),
        ("SELECT a FROM \"public\" . \"Users\"", "SELECT \"public\".\"Users\""),
        ("SELECT a FROM `db`.`t`", "SELECT `db`.`t`"),
        ("SELECT * FROM a LEFT OUTER JOIN b USING (id, x), c", "SELECT a b c"),
        ("SELECT * FROM (a JOIN b ON a.x = b.x) JOIN c ON true", "SELECT a b c"),
        ("SELECT * FROM ONLY a, LATERAL (SELECT * FROM b) q, c", "SELECT a SELECT b c"),
        ("SELECT * FROM a WHERE id NOT IN (SELECT id FROM b)", "SELECT a SELECT b"),
        ("SELECT (SELECT max(x) FROM b), y FROM a", "SELECT SELECT b a"),
        ("SELECT a FROM t UNION ALL SELECT b FROM u", "SELECT t SELECT u"),
        ("SELECT EXTRACT(year FROM d), trim(both FROM x), f(a, b) FROM t", "SELECT t"),
        ("SELECT * FROM t WHERE a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM d", "SELECT t"),
        ("SELECT DISTINCT a FROM t ORDER BY a, b LIMIT 1", "SELECT t"),
        ("SELECT * FROM generate_series(1, 10), t", "SELECT generate_series t"),
        ("SELECT * INTO archive FROM t", "SELECT archive t"),
        ("SELECT * FROM t INTO OUTFILE '/tmp/x'", "SELECT t"),
        ("SELECT a INTO @x FROM t", "SELECT t"),
        ("SELECT * FROM jobs WHERE id = ? FOR UPDATE SKIP LOCKED", "SELECT jobs"),
        ("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t SELECT u"),
        ("VALUES (1), (2)", "VALUES"),
        (
            "SELECT * FROM t /* FROM x */ -- FROM y\nWHERE s = 'FROM z' AND d = $$FROM w$$",
            "SELECT t",
        ),
        ("SELECT \"from x\" FROM t", "SELECT t"),
        ("SELECT upper(replace(a, 'x', 'y')), insert(a, 1, 2, 'z') FROM t", "SELECT t"),
        // Common table expressions.
        (
            "WITH recent AS (SELECT * FROM orders) SELECT * FROM recent",
            "SELECT orders SELECT recent",
        ),
        (
            "WITH RECURSIVE a (x, y) AS (SELECT 1 FROM t), b AS MATERIALIZED (SELECT 2 FROM u) SELECT * FROM a, b",
            "SELECT t SELECT u SELECT a b",
        ),
        (
            "WITH gone AS (DELETE FROM queue WHERE id = 1 RETURNING *) INSERT INTO log SELECT * FROM gone",
            "DELETE queue INSERT log SELECT gone",
        ),
        // Changes.
        ("INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = 3", "INSERT t"),
        ("INSERT INTO t VALUES (?) ON DUPLICATE KEY UPDATE a = ?", "INSERT t"),
        ("INSERT OR REPLACE INTO t (a) VALUES (1)", "INSERT t"),
        ("REPLACE INTO t VALUES (1)", "REPLACE t"),
        ("INSERT INTO t (a) VALUES ((SELECT max(a) FROM u)) RETURNING id", "INSERT t SELECT u"),
        ("UPDATE t SET a = 1, b = 2 FROM u WHERE t.id = u.id", "UPDATE t u"),
        ("UPDATE OR IGNORE t SET a = (SELECT x FROM u)", "UPDATE t SELECT u"),
        ("DELETE FROM t USING u, v WHERE t.id = u.id", "DELETE t u v"),
        (
            "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
            "MERGE t s",
        ),
        ("TRUNCATE TABLE a, b", "TRUNCATE a b"),
        ("COPY t (a, b) FROM STDIN", "COPY t"),
        ("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t"),
        // Definitions.
        (
            "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'x')",
            "CREATE TABLE users",
        ),
        (
            "CREATE TABLE t (a INT REFERENCES u (id) ON DELETE CASCADE ON UPDATE SET NULL)",
            "CREATE TABLE t",
        ),
        ("CREATE TABLE t AS SELECT * FROM u", "CREATE TABLE t SELECT u"),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT a FROM t", "CREATE VIEW v SELECT t"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a, b)", "CREATE INDEX i t"),
        ("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b"),
        ("ALTER TABLE t ADD COLUMN c TEXT", "ALTER TABLE t"),
        ("ALTER TABLE a RENAME TO b", "ALTER TABLE a"),
        // The rest.
        ("BEGIN", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ("SAVEPOINT s1", "SAVEPOINT"),
        ("PRAGMA journal_mode = WAL", "PRAGMA journal_mode"),
        ("PRAGMA table_info('users')", "PRAGMA table_info"),
        ("SET search_path TO x", "SET"),
        ("SHOW server_version", "SHOW"),
        ("EXPLAIN SELECT * FROM t", "EXPLAIN SELECT t"),
        ("EXPLAIN QUERY PLAN SELECT * FROM t", "EXPLAIN QUERY SELECT t"),
        ("INSERT INTO a VALUES (1); UPDATE b SET c = 1;", "INSERT a UPDATE b"),
        ("", ""),
        ("  -- nothing", ""),
        ("SELECT * FROM", "SELECT"),
        ("SELECT * FROM WHERE", "SELECT WHERE"),
        (")))(((", ""),
    ];
    let wrong: Vec<_> = table
        .into_iter()
        .filter(|(text, expected)| summary(text) != *expected)
        .map(|(text, expected)| format!("{text}\n  is {:?}\n  not {expected:?}", summary(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_single_table_is_the_collection() {
    let table = [
        ("SELECT * FROM t JOIN t x ON true", Some("t")),
        ("SELECT * FROM \"My Table\"", Some("My Table")),
        ("SELECT * FROM a, b", None),
        ("WITH r AS (SELECT * FROM orders) SELECT * FROM R", Some("orders")),
        ("CREATE INDEX i ON t (a)", Some("t")),
        ("CALL p()", None),
        ("BEGIN", None),
    ];
    for (text, expected) in table {
        assert_eq!(summarize(text, Dialect::Other).collection(), expected, "{text}");
    }
    assert_eq!(summarize("insert into t select 1", Dialect::Other).operation(), Some("insert"));
    assert_eq!(summarize("", Dialect::Other).operation(), None);
}

#[test]
fn a_long_summary_ends_between_two_words() {
    let tables: Vec<String> = (0..100).map(|number| format!("täble_{number}")).collect();
    let long = summary(&format!("SELECT * FROM {}", tables.join(", ")));
    assert!(long.chars().count() <= 255 && long.chars().count() > 240, "{long}");
    assert!(tables.iter().any(|table| long.ends_with(table)), "{long}");
    assert_eq!(summary(&format!("SELECT * FROM {}", "x".repeat(300))), "SELECT");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_grow(
        text in r#"((SELECT|FROM|WITH|AS|INSERT|INTO|JOIN|ON|CREATE|TABLE|USING|IS DISTINCT|VALUES|x|"y"|'z'|[(),.;?$1ü]|\PC) ?){0,40}"#,
    ) {
        for dialect in [Dialect::Postgres, Dialect::MySql, Dialect::Sqlite, Dialect::SqlServer, Dialect::Other] {
            let summary = summarize(&text, dialect);
            prop_assert!(summary.text().chars().count() <= 255);
        }
    }
}
