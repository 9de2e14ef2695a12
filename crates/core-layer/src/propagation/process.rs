//! Carriers without headers: the environment of a process, and plain maps of text.
//!
//! Environment variables are those of the specification's environment carrier
//! (<https://opentelemetry.io/docs/specs/otel/context/env-carriers/>): the name of a header in
//! upper case, everything but letters, digits and underscores an underscore (`TRACEPARENT`,
//! `TRACESTATE`, `BAGGAGE`, `X_B3_TRACEID`).

use std::collections::HashMap;
use std::process::Command;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;

use super::egress::Egress;
use super::{Active, active, current_context};

/// Writes the context of the current span into the environment of a child process, unrestricted:
/// it runs on this machine. The child reads it by [`extract_env`], or whatever its language has
/// for the same variables.
///
/// Variables of a context that this process was started with itself are not passed on; without a
/// current span they are. For tokio's command: `inject_env(command.as_std_mut())`.
///
/// ```
/// let mut command = std::process::Command::new("true");
/// spanweave_core::propagation::inject_env(&mut command);
/// ```
pub fn inject_env(command: &mut Command) {
    active().write_env(&current_context(), command);
}

/// Reads the context that this process was started with. To be called once, at the start, for the
/// parent of the program's first span: [`SpanExt::set_parent`](crate::SpanExt::set_parent).
///
/// Baggage in Jaeger's format (`uberctx-*`) is not read: its keys do not survive as names of
/// variables.
pub fn extract_env() -> Context {
    // What is not Unicode is no header of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    active().read_env(variables)
}

/// Writes the context of the current span into a map, unrestricted: for messages (Kafka, SQS), rows
/// of a job table. Entries that the propagators write replace those that stood there; names are
/// lower-case.
///
/// ```
/// use std::collections::HashMap;
/// use spanweave_core::propagation::{extract_map, inject_map};
///
/// let mut message = HashMap::new();
/// inject_map(&mut message);
/// let cx = extract_map(&message); // the worker, later
/// # drop(cx);
/// ```
pub fn inject_map(map: &mut HashMap<String, String>) {
    active().write_map(&current_context(), map);
}

/// Reads the context out of a map, as [`extract`](super::extract) does out of headers. Names are
/// looked up in lower case.
pub fn extract_map(map: &HashMap<String, String>) -> Context {
    active().propagators().extract_with_context(&Context::new(), map)
}

impl Active {
    fn write_map(&self, cx: &Context, map: &mut HashMap<String, String>) {
        if cx.span().span_context().is_valid() {
            for field in self.propagators().fields() {
                if field != super::BAGGAGE {
                    map.remove(field);
                }
            }
        }
        self.propagators().write(cx, Egress::Full, map);
    }

    fn write_env(&self, cx: &Context, command: &mut Command) {
        if cx.span().span_context().is_valid() {
            for field in self.propagators().fields() {
                command.env_remove(variable(field));
            }
        }
        self.propagators().write(cx, Egress::Full, &mut CommandInjector(command));
    }

    fn read_env(&self, variables: impl Iterator<Item = (String, String)>) -> Context {
        self.propagators().extract_with_context(&Context::new(), &EnvExtractor(variables.collect()))
    }
}

struct CommandInjector<'a>(&'a mut Command);

impl Injector for CommandInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An environment cannot hold it, and starting the process would fail.
        if !value.contains('\0') {
            self.0.env(variable(key), value);
        }
    }
}

struct EnvExtractor(HashMap<String, String>);

impl Extractor for EnvExtractor {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(&variable(key)).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The variable of a header.
fn variable(header: &str) -> String {
    let starts_with_digit = header.starts_with(|first: char| first.is_ascii_digit());
    let prefix = starts_with_digit.then_some('_');
    let normal = header.chars().map(|c| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9' | '_') => c,
        _ => '_',
    });
    prefix.into_iter().chain(normal).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Propagator, Propagators};
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context() -> Context {
        let map = [("traceparent", PARENT), ("tracestate", "a=1"), ("baggage", "k=v")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        extract_map(&map.into())
    }

    #[test]
    fn the_names_of_variables_are_those_of_the_specification() {
        for (header, expected) in [
            ("traceparent", "TRACEPARENT"),
            ("x-b3-traceid", "X_B3_TRACEID"),
            ("uber-trace-id", "UBER_TRACE_ID"),
            ("1st.é", "_1ST__"),
            ("", ""),
        ] {
            assert_eq!(variable(header), expected);
        }
    }

    #[test]
    fn a_child_process_gets_the_context_and_nothing_stale() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $TRACEPARENT $TRACESTATE $BAGGAGE"]).env("TRACESTATE", "old=1");
        let all = Active::default();
        all.write_env(&context(), &mut command);
        let output = command.output().unwrap();
        let expected = format!("{PARENT} a=1 k=v\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);

        let ids_alone = extract_map(&[("traceparent".to_owned(), PARENT.to_owned())].into());
        let mut command = Command::new("sh");
        command.args(["-c", "echo $TRACEPARENT $TRACESTATE"]).env("TRACESTATE", "old=1");
        all.write_env(&ids_alone, &mut command);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{PARENT}\n"));
    }

    #[test]
    fn every_format_goes_through_an_environment_and_a_map() {
        for name in ["tracecontext", "b3", "b3multi", "jaeger"] {
            let active = Active::new(Propagators::new(Propagator::from_name(name)));
            let mut command = Command::new("true");
            active.write_env(&context(), &mut command);
            let variables = command.get_envs().filter_map(|(name, value)| {
                Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned()))
            });
            let read = active.read_env(variables);
            let mut map = HashMap::new();
            active.write_map(&context(), &mut map);
            let mapped = active.propagators().extract_with_context(&Context::new(), &map);
            for cx in [read, mapped] {
                let (cx, sent) = (cx.span().span_context().clone(), context());
                assert_eq!(cx.span_id(), sent.span().span_context().span_id(), "{name}");
                assert!(cx.is_sampled() && cx.is_remote(), "{name}");
            }
        }
    }

    #[test]
    fn a_value_that_no_environment_can_hold_is_left_out() {
        let mut command = Command::new("true");
        CommandInjector(&mut command).set("k", "a\0b".to_owned());
        assert_eq!(command.get_envs().count(), 0);
    }
}
