//! What ARCHITECTURE.md promises about the source itself.
//!
//! Files are read as tokens, so that comments and texts do not count; what is compiled for tests
//! only is left out.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{TokenStream, TokenTree};
use serde_json::Value;
use spanweave_tests::workspace;

/// The longest file that a reader is asked to hold in mind.
const MAX_LINES: usize = 800;

/// A source file of a crate, relative to the workspace.
struct Source {
    path: String,
    /// Without what is compiled for tests only.
    tokens: Vec<TokenTree>,
}

/// The shipped files of all crates in `crates/` but the testkit, which is for tests and panics as
/// tests do.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for entry in fs::read_dir(workspace().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.file_name().unwrap() != "testkit" {
            rust_files(&folder.join("src"), &mut files);
        }
    }
    files.sort();
    let mut test_only = HashSet::new();
    let mut parsed = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let tokens = without_tests(tokens.into_iter().collect(), &mut |module| {
            test_only.insert(module_file(&path, module));
        });
        parsed.push((path, tokens));
    }
    parsed.retain(|(path, _)| !is_test_only(path, &test_only));
    assert!(parsed.len() > 100, "{} files: is this the workspace?", parsed.len());
    parsed.into_iter().map(|(path, tokens)| Source { path: relative(&path), tokens }).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned()
}

/// Where `mod name;` in `file` lies, without `.rs` or `/mod.rs`.
fn module_file(file: &Path, name: &str) -> PathBuf {
    let folder = file.parent().unwrap();
    match file.file_stem().and_then(|stem| stem.to_str()).unwrap() {
        "lib" | "main" | "mod" => folder.join(name),
        stem => folder.join(stem).join(name),
    }
}

fn is_test_only(path: &Path, modules: &HashSet<PathBuf>) -> bool {
    path.with_extension("").ancestors().any(|module| modules.contains(module))
}

/// Removes items under `#[cfg(test)]`, at any depth, and names the modules that lie in other files.
fn without_tests(tokens: Vec<TokenTree>, module: &mut dyn FnMut(&str)) -> Vec<TokenTree> {
    let mut out = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if is_punct(&token, '#') && rest.peek().is_some_and(is_cfg_test) {
            let item = item(&mut rest);
            if let [.., keyword, TokenTree::Ident(name), end] = item.as_slice()
                && is_ident(keyword, "mod")
                && is_punct(end, ';')
            {
                module(&name.to_string());
            }
        } else if let TokenTree::Group(group) = &token {
            let inner = without_tests(group.stream().into_iter().collect(), module);
            let mut new = proc_macro2::Group::new(group.delimiter(), inner.into_iter().collect());
            new.set_span(group.span());
            out.push(TokenTree::Group(new));
        } else {
            out.push(token);
        }
    }
    out
}

/// The rest of an item: up to its block or its semicolon.
fn item(rest: &mut impl Iterator<Item = TokenTree>) -> Vec<TokenTree> {
    let mut item = Vec::new();
    for token in rest {
        let is_block = matches!(&token, TokenTree::Group(group)
            if group.delimiter() == proc_macro2::Delimiter::Brace);
        let ends = is_block || is_punct(&token, ';');
        item.push(token);
        if ends {
            break;
        }
    }
    item
}

fn is_cfg_test(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_ident(token: &TokenTree, wanted: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == wanted)
}

/// Whether the tokens begin with this text: identifiers and punctuation, apart by spaces, and `()`
/// for any group.
fn begins(tokens: &[TokenTree], pattern: &str) -> bool {
    let mut tokens = tokens.iter();
    pattern.split(' ').all(|wanted| {
        tokens.next().is_some_and(|token| match token {
            TokenTree::Group(_) => wanted == "()",
            TokenTree::Ident(ident) => ident == wanted,
            TokenTree::Punct(punct) => wanted.len() == 1 && wanted.starts_with(punct.as_char()),
            TokenTree::Literal(_) => false,
        })
    })
}

/// Where one of the patterns stands, as `path:line: pattern`.
fn find(source: &Source, patterns: &[&str]) -> Vec<String> {
    fn walk(tokens: &[TokenTree], visit: &mut dyn FnMut(&[TokenTree])) {
        for (at, token) in tokens.iter().enumerate() {
            visit(&tokens[at..]);
            if let TokenTree::Group(group) = token {
                walk(&group.stream().into_iter().collect::<Vec<_>>(), visit);
            }
        }
    }
    let mut found = Vec::new();
    walk(&source.tokens, &mut |tokens| {
        for pattern in patterns.iter().filter(|pattern| begins(tokens, pattern)) {
            let line = tokens[0].span().start().line;
            found.push(format!("{}:{line}: {pattern}", source.path));
        }
    });
    found
}

#[track_caller]
fn assert_absent(patterns: &[&str], but: &[&str]) {
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| !but.contains(&source.path.as_str()))
        .flat_map(|source| find(source, patterns))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_search_sees_code_and_neither_comments_nor_tests() {
    let text = r##"
        //! `x.unwrap()`
        /// panic!("no")
        fn real() { let text = "y.unwrap()"; if a { b(c.unwrap()) } }
        #[cfg(test)]
        #[allow(dead_code)]
        fn only_for_tests() { d.unwrap() }
        impl A { #[cfg(test)] fn also() { e.unwrap() } fn f() { f.unwrap_or(0) } }
        #[cfg(test)]
        mod elsewhere;
    "##;
    let mut modules = Vec::new();
    let tokens =
        without_tests(text.parse::<TokenStream>().unwrap().into_iter().collect(), &mut |module| {
            modules.push(module.to_owned())
        });
    let source = Source { path: "a.rs".to_owned(), tokens };
    assert_eq!(find(&source, &[". unwrap ()", "panic !"]), ["a.rs:4: . unwrap ()"]);
    assert_eq!(modules, ["elsewhere"]);
    let file = Path::new("crates/a/src/b.rs");
    assert_eq!(module_file(file, "c"), Path::new("crates/a/src/b/c"));
    let modules = HashSet::from([PathBuf::from("crates/a/src/b/c")]);
    assert!(is_test_only(Path::new("crates/a/src/b/c.rs"), &modules));
    assert!(is_test_only(Path::new("crates/a/src/b/c/d.rs"), &modules));
    assert!(!is_test_only(file, &modules));
}

#[test]
fn the_clock_is_read_in_one_file() {
    let clock = "crates/core-layer/src/clock.rs";
    let patterns = ["Instant : : now", "SystemTime : : now", "Clock : : new", ". elapsed ()"];
    assert_absent(&patterns, &[clock]);
    let source = sources().into_iter().find(|source| source.path == clock).unwrap();
    assert!(!find(&source, &patterns).is_empty(), "the search finds what is there");
}

#[test]
fn shipped_code_does_not_panic_on_purpose() {
    assert_absent(
        &[
            ". unwrap ()",
            ". expect ()",
            ". unwrap_err ()",
            ". expect_err ()",
            "panic !",
            "unreachable !",
            "todo !",
            "unimplemented !",
        ],
        // For the tests of applications; it fails as an assertion does.
        &["crates/spanweave/src/testing/mod.rs"],
    );
}

#[test]
fn unsafe_code_is_in_one_file() {
    // `Layer::downcast_raw` is an unsafe method of the trait.
    assert_absent(
        &["unsafe ()", "unsafe fn", "unsafe impl", "unsafe extern"],
        &["crates/core-layer/src/capture/layer.rs"],
    );
}

#[test]
fn no_file_is_too_long() {
    let mut files = Vec::new();
    for folder in ["crates", "tests", "examples", "benches"] {
        rust_files(&workspace().join(folder), &mut files);
    }
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> = files.iter().filter(|path| lines(path) > MAX_LINES).collect();
    assert!(long.is_empty(), "{long:?}");
}

/// The packages of the workspace and what each depends on: (name, kind, other package).
fn dependencies() -> Vec<(String, String, String)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            found.push((
                text(&package["name"]),
                text(&dependency["kind"]),
                text(&dependency["name"]),
            ));
        }
    }
    assert!(found.len() > 50, "{found:?}");
    found
}

#[test]
fn crates_depend_on_the_core_and_not_on_one_another() {
    const PARTS: [&str; 4] =
        ["spanweave-exporter", "spanweave-metrics", "spanweave-instrumentation", "spanweave-live"];
    let allowed = |package: &str, kind: &str, on: &str| match package {
        "spanweave-core" => false,
        part if PARTS.contains(&part) => {
            on == "spanweave-core" || (kind == "dev" && on == "spanweave-testkit")
        }
        "spanweave" => on == "spanweave-core" || PARTS.contains(&on) || kind == "dev",
        "spanweave-testkit" => ["spanweave-core", "spanweave-live"].contains(&on),
        // Examples, tests and benches take what they show.
        _ => true,
    };
    let wrong: Vec<_> = dependencies()
        .into_iter()
        .filter(|(package, kind, on)| on.starts_with("spanweave") && !allowed(package, kind, on))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_own_codec_and_the_receiver_share_no_code() {
    // What we encode is checked by others' code, and only so is it a check.
    for (package, kind, on) in dependencies() {
        let shares = package == "spanweave-live" && on == "spanweave-exporter"
            || package == "spanweave-exporter" && kind == "normal" && on == "opentelemetry-proto";
        assert!(!shares, "{package} depends on {on}");
    }
}
