//! What `deploy/` has for Prometheus and Grafana, against a real Prometheus that scrapes the shop.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use spanweave_testkit::http;
use spanweave_tests::{Running, command, promtool, shared, shop, workspace};

/// For a debug build on a machine that runs other tests as well.
const PATIENCE: Duration = Duration::from_secs(120);

/// Scrapes are a second apart.
const TRIES: u32 = 90;

/// A shop that goes on serving.
struct Shop {
    run: Running,
    targets: Vec<String>,
    gateway: String,
}

impl Shop {
    fn start(folder: &Path) -> Self {
        // What it says of its addresses goes to standard error, so that the summary stands alone.
        let mut shop = command("sh");
        shop.env_remove("DATABASE_URL").args(["-c", "exec \"$0\" \"$@\" 2>&1"]);
        shop.arg(self::shop()).arg("--out").arg(folder).args(["--requests", "40", "--hold"]);
        let mut run = Running::start(shop);
        let (mut targets, mut gateway) = (Vec::new(), None);
        while targets.len() < 3 || gateway.is_none() {
            let line = run.line(PATIENCE);
            for url in line.split([' ', ',']).filter_map(|word| word.strip_prefix("http://")) {
                match url.strip_suffix("/metrics") {
                    Some(target) => targets.push(target.to_owned()),
                    None if line.starts_with("gateway") => gateway = Some(format!("http://{url}")),
                    None => {}
                }
            }
        }
        Self { run, targets, gateway: gateway.unwrap_or_default() }
    }

    /// Requests of all sorts, some of which fail, until `done`.
    fn load(gateway: &str, done: &AtomicBool) {
        let order = |token: &str| {
            let order = json!({
                "user_id": 7, "item": "lamp", "quantity": 1, "card_token": token, "coupon": null,
            });
            order.to_string().into_bytes()
        };
        while !done.load(Ordering::Relaxed) {
            for path in ["/users/1", "/users/1/orders", "/users/1/dashboard", "/reports/sales"] {
                assert_eq!(http::get(&format!("{gateway}{path}")).status, 200, "{path}");
            }
            for token in ["tok_1", "tok_declined"] {
                http::post(&format!("{gateway}/orders"), "application/json", &order(token));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A Prometheus with the configuration of `deploy/`, but for what differs between machines.
struct Prometheus {
    url: String,
    _run: Running,
}

impl Prometheus {
    fn start(folder: &Path, targets: &[String]) -> Self {
        let deploy = workspace().join("deploy/prometheus");
        let mut config = fs::read_to_string(deploy.join("prometheus.yml")).unwrap();
        let list: Vec<String> = targets.iter().map(|t| format!("- {t}\n          ")).collect();
        for (deployed, here) in [
            ("- localhost:9464\n", list.concat()),
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("scrape_timeout: 10s", "scrape_timeout: 1s".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
        ] {
            assert_eq!(config.matches(deployed).count(), 1, "{deployed} in {config}");
            config = config.replace(deployed, &here);
        }
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        fs::copy(deploy.join("rules.yml"), folder.join("rules.yml")).unwrap();
        // Prometheus does not say which port it took, so it gets one that is free now.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut prometheus = command("prometheus");
        prometheus
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage");
        let this = Self { url: format!("http://{address}"), _run: Running::start(prometheus) };
        wait_for("Prometheus", || {
            let ready = http::send("GET", &format!("{}/-/ready", this.url), &[], b"");
            ready.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        this
    }

    #[track_caller]
    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let parameters: Vec<String> =
            parameters.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        let answer = http::get(&format!("{}/api/v1/{path}?{}", self.url, parameters.join("&")));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["status"], "success", "{path} {parameters:?}: {body}");
        body["data"].clone()
    }

    /// The values of a query, those that are no numbers left out.
    #[track_caller]
    fn values(&self, query: &str) -> Vec<f64> {
        let result = self.ask("query", &[("query", query)]);
        let series = result["result"].as_array().unwrap();
        let value = |series: &Value| series["value"][1].as_str()?.parse::<f64>().ok();
        series.iter().filter_map(value).filter(|value| !value.is_nan()).collect()
    }

    /// The trace ids of all exemplars of the series that a query reads.
    #[track_caller]
    fn exemplars(&self, query: &str) -> BTreeSet<String> {
        // All of the time that has been and a day of what will be.
        let end = self.values("vector(time() + 86400)")[0].to_string();
        let parameters = [("query", query), ("start", "0"), ("end", &end)];
        let series = self.ask("query_exemplars", &parameters);
        let exemplars = series.as_array().unwrap().iter();
        exemplars
            .flat_map(|series| series["exemplars"].as_array().unwrap())
            .map(|exemplar| exemplar["labels"]["trace_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..TRIES {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_secs(1));
    }
    panic!("{what} did not come");
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Every query of the dashboard with the variables that Grafana would put in, those of the
/// variables themselves included.
fn dashboard_queries() -> Vec<String> {
    let file = workspace().join("deploy/grafana/spanweave.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let targets: Vec<&Value> =
        panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().collect();
    let with_exemplars = targets.iter().filter(|target| target["exemplar"] == true).count();
    assert!(with_exemplars >= 10, "{with_exemplars} queries ask for exemplars");
    let expressions = targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter(|variable| variable["type"] == "query").map(|variable| {
        let query = variable["query"]["query"].as_str().unwrap();
        let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
        let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap();
        format!("count by ({label}) ({series})")
    });
    let filled = expressions.chain(of_variables).map(|query| {
        let filled = query
            .replace("$__rate_interval", "15s")
            .replace("$__range", "1m")
            .replace("$service", ".*")
            .replace("$operation", ".*")
            .replace("$job", ".*");
        assert!(!filled.contains('$'), "{query}");
        filled
    });
    filled.collect()
}

/// Every query of the rules; of alerts what is compared with the threshold.
#[track_caller]
fn rule_queries(prometheus: &Prometheus) -> Vec<String> {
    let data = prometheus.ask("rules", &[]);
    let groups = data["groups"].as_array().unwrap();
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let file = fs::read_to_string(workspace().join("deploy/prometheus/rules.yml")).unwrap();
    let written = file.matches("- record: ").count() + file.matches("- alert: ").count();
    assert_eq!(rules.len(), written);
    let mut queries = Vec::new();
    for rule in rules {
        assert_eq!(rule["lastError"], Value::Null, "{rule}");
        let query = rule["query"].as_str().unwrap();
        if rule["type"] == "recording" {
            queries.extend([query.to_owned(), rule["name"].as_str().unwrap().to_owned()]);
        } else {
            let words: Vec<&str> = query.rsplitn(3, ' ').collect();
            let [threshold, operator, compared] = words[..] else { panic!("{query}") };
            assert!(["==", ">", ">="].contains(&operator), "{query}");
            assert!(threshold.parse::<f64>().is_ok(), "{query}");
            queries.push(compared.to_owned());
        }
    }
    queries
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    let deploy = workspace().join("deploy/prometheus");
    for (what, file) in [("config", "prometheus.yml"), ("rules", "rules.yml")] {
        let output = promtool().args(["check", what]).arg(deploy.join(file)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("FAILED"), "{said}");
    }
}

#[test]
fn every_query_of_the_dashboard_and_the_rules_returns_data_of_the_shop() {
    let _machine = shared();
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::start(&folder.path().join("shop"));
    let prometheus = Prometheus::start(folder.path(), &shop.targets);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| Shop::load(&shop.gateway, &done));
        // Ends the load also where something below fails.
        let _end = OnDrop(|| done.store(true, Ordering::Relaxed));
        let mut missing: Vec<String> = dashboard_queries();
        wait_for("the rules", || {
            let data = prometheus.ask("rules", &[]);
            let unknown = data["groups"].as_array()?.iter().any(|group| {
                group["rules"].as_array().is_none_or(|r| r.iter().any(|r| r["health"] == "unknown"))
            });
            (!unknown).then_some(())
        });
        missing.extend(rule_queries(&prometheus));
        assert!(missing.len() > 60, "{} queries", missing.len());
        for _ in 0..TRIES {
            missing.retain(|query| prometheus.values(query).is_empty());
            if missing.is_empty() {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        assert_eq!(missing, Vec::<String>::new(), "these return nothing");
        check_functions(&prometheus);
    });
    let ids = exemplars(&prometheus);
    let counted = settled(&prometheus, "sum(trace_span_total)");
    check_sums(&prometheus);
    let interrupted =
        Command::new("kill").args(["-INT", &shop.run.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    drop(shop.run.finish(PATIENCE).successful());
    let (spans, kept) = delivered(&folder.path().join("shop"));
    assert_eq!(spans as f64, counted, "spans delivered and spans counted");
    let lost: Vec<&String> = ids.difference(&kept).collect();
    assert!(lost.is_empty(), "{lost:?} are in no file, of {}", ids.len());
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Rates and percentiles have values that make sense.
#[track_caller]
fn check_functions(prometheus: &Prometheus) {
    let one = |query: &str| match prometheus.values(query)[..] {
        [value] => value,
        ref values => panic!("{query}: {values:?}"),
    };
    assert!(one("sum(rate(trace_span_total[15s]))") > 1.0);
    for bucket in
        ["trace_span_duration_seconds_bucket", "http_server_request_duration_seconds_bucket"]
    {
        let p95 = one(&format!("histogram_quantile(0.95, sum by (le) (rate({bucket}[15s])))"));
        assert!(p95 > 0.0 && p95 <= 30.0, "{bucket}: {p95}");
    }
    // Each end names both: the caller by its header, the callee by the header of its answer.
    for edges in ["service_requests_total", "service_calls_total"] {
        let ends = r#"source_service="gateway", target_service="orders""#;
        assert!(one(&format!("sum({edges}{{{ends}}})")) > 0.0);
    }
}

/// What has been counted in several ways is the same, at rest.
#[track_caller]
fn check_sums(prometheus: &Prometheus) {
    for (one, other) in [
        ("trace_span_total", "trace_span_duration_seconds_count"),
        ("trace_span_total", "spanweave_spans_ended_total"),
        (r#"trace_span_total{status="error"}"#, "trace_errors_total"),
        ("service_requests_total", "http_server_request_duration_seconds_count"),
    ] {
        let [one, other] = [one, other].map(|name| prometheus.values(&format!("sum({name})")));
        assert!(one == other && one.len() == 1, "{one:?} and {other:?}");
    }
    let unaccounted: Vec<String> = dashboard_queries()
        .into_iter()
        .filter(|q| q.contains("backend_up{job=~\".*\"} * 0"))
        .collect();
    let [unaccounted] = unaccounted.as_slice() else { panic!("{unaccounted:?}") };
    wait_for("an account of all spans", || {
        let values = prometheus.values(unaccounted);
        (values.len() == 12 && values.iter().all(|value| *value == 0.0)).then_some(())
    });
}

/// The trace ids of exemplars of counters and histograms.
#[track_caller]
fn exemplars(prometheus: &Prometheus) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for series in [
        "trace_span_total",
        "trace_span_duration_seconds_bucket",
        "trace_errors_total",
        "service_requests_total",
        "service_calls_total",
        "http_server_request_duration_seconds_bucket",
        "db_client_operation_duration_seconds_bucket",
    ] {
        let ids = prometheus.exemplars(series);
        assert!(!ids.is_empty(), "{series} has no exemplars");
        all.extend(ids);
    }
    all
}

/// A value once it has not changed for three scrapes.
#[track_caller]
fn settled(prometheus: &Prometheus, query: &str) -> f64 {
    let mut last: Vec<Vec<f64>> = Vec::new();
    wait_for("rest", || {
        last.push(prometheus.values(query));
        let [.., a, b, c, d] = last.as_slice() else { return None };
        (a == b && b == c && c == d).then(|| d.first().copied()).flatten()
    })
}

/// How many spans are in the shop's files of the own form, a line each, and of which traces.
fn delivered(folder: &Path) -> (usize, BTreeSet<String>) {
    let (mut spans, mut ids) = (0, BTreeSet::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".spans.jsonl") {
            for line in fs::read_to_string(path).unwrap().lines() {
                let span: Value = serde_json::from_str(line).unwrap();
                ids.insert(span["traceID"].as_str().unwrap().to_owned());
                spans += 1;
            }
        }
    }
    (spans, ids)
}
