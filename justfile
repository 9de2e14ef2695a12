# The commands of a change. CI runs `.ci/run`, which holds them; `just --list` shows all.

[private]
default:
    @just --list

# Everything that CI checks
ci:
    .ci/run

# Rewrite the source in the project's format
format:
    cargo fmt --all

# Clippy over everything, warnings are errors
lint:
    .ci/run lint

# Documentation, warnings are errors
docs:
    .ci/run docs

# Parts alone and without features
features:
    .ci/run features

# Install what the tests need, then run all of them; arguments go to `cargo test`
test *ARGS:
    ./scripts/test {{ARGS}}

# Licenses, sources and who may depend on what (needs cargo-deny)
deny:
    cargo deny check bans licenses sources

# The shop: three services, traced
shop *ARGS="--requests 200":
    cargo run --release -p shop -- {{ARGS}}

# What a span costs, against the peers
bench *ARGS="overhead":
    cargo run --release -p spanweave-benches -- {{ARGS}}
