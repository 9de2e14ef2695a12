//! Who made the spans: attributes detected once in the process, then the environment, then code;
//! the later wins.
//!
//! The command line is not among them: arguments hold secrets too often.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::Resource;

use crate::env::EnvConfig;

const SERVICE_NAME: &str = "service.name";

/// The resource of `detected`, `env` and `code`, the later ones winning.
pub(crate) fn resource(detected: &[KeyValue], env: &EnvConfig, code: &[KeyValue]) -> Resource {
    let env_attributes = env
        .resource_attributes
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let env_name = env.service_name.iter().map(|name| KeyValue::new(SERVICE_NAME, name.clone()));
    // Later attributes of a key replace earlier ones.
    let all =
        detected.iter().cloned().chain(env_attributes).chain(env_name).chain(code.iter().cloned());
    Resource::builder_empty().with_attributes(all).build()
}

/// The service's name, as the resource has it.
pub(crate) fn service_name(resource: &Resource) -> String {
    let name = resource.get(&Key::from_static_str(SERVICE_NAME));
    name.map(|name| name.to_string()).unwrap_or_default()
}

/// What the process knows of itself. The instance id is the same for the life of the process.
pub(crate) fn detect() -> Vec<KeyValue> {
    let executable = executable_name();
    let unknown = executable.as_deref().unwrap_or("rust");
    let mut attributes = vec![
        KeyValue::new(SERVICE_NAME, format!("unknown_service:{unknown}")),
        KeyValue::new("service.instance.id", instance_id()),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.name", "spanweave"),
        KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("os.type", os_type(std::env::consts::OS)),
        KeyValue::new("host.arch", host_arch(std::env::consts::ARCH)),
        KeyValue::new("process.pid", i64::from(std::process::id())),
        KeyValue::new("process.runtime.name", "rustc"),
    ];
    let mut known = |key: &'static str, value: Option<String>| {
        attributes.extend(value.map(|value| KeyValue::new(key, Value::from(value))));
    };
    known("process.executable.name", executable);
    known("host.name", host_name());
    attributes
}

fn executable_name() -> Option<String> {
    let path = std::env::current_exe().ok()?;
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn host_name() -> Option<String> {
    let from_file = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let name = from_file.or_else(|| crate::env::process("COMPUTERNAME"))?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// `os.type` of the semantic conventions.
fn os_type(os: &'static str) -> &'static str {
    match os {
        "macos" | "ios" => "darwin",
        "dragonfly" => "dragonflybsd",
        os => os,
    }
}

/// `host.arch` of the semantic conventions.
fn host_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        arch => arch,
    }
}

fn instance_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    // Each `RandomState` is seeded by the operating system.
    ID.get_or_init(|| uuid_v4(std::array::from_fn(|_| RandomState::new().build_hasher().finish())))
        .clone()
}

/// 128 random bits in the form of RFC 9562, version 4.
fn uuid_v4([high, low]: [u64; 2]) -> String {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(resource: &Resource, key: &'static str) -> Option<String> {
        resource.get(&Key::from_static_str(key)).map(|value| value.to_string())
    }

    fn env(name: Option<&str>, attributes: &[(&str, &str)]) -> EnvConfig {
        EnvConfig {
            service_name: name.map(str::to_owned),
            resource_attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..EnvConfig::default()
        }
    }

    #[test]
    fn code_beats_the_environment_beats_detection() {
        let detected = [KeyValue::new(SERVICE_NAME, "unknown"), KeyValue::new("host.name", "h")];
        let attributes = [(SERVICE_NAME, "attribute"), ("host.name", "e"), ("team", "e")];
        let names =
            |env: &EnvConfig, code: &[KeyValue]| service_name(&resource(&detected, env, code));

        assert_eq!(names(&env(None, &[]), &[]), "unknown");
        assert_eq!(names(&env(None, &attributes), &[]), "attribute");
        assert_eq!(names(&env(Some("variable"), &attributes), &[]), "variable");
        let code = [KeyValue::new(SERVICE_NAME, "code"), KeyValue::new("team", "c")];
        let all = resource(&detected, &env(Some("variable"), &attributes), &code);
        assert_eq!(service_name(&all), "code");
        assert_eq!(get(&all, "host.name").as_deref(), Some("e"));
        assert_eq!(get(&all, "team").as_deref(), Some("c"));
    }

    #[test]
    fn the_process_is_described_without_its_arguments() {
        let found = resource(&detect(), &EnvConfig::default(), &[]);
        assert!(service_name(&found).starts_with("unknown_service:"));
        for key in ["service.instance.id", "process.executable.name", "host.arch", "os.type"] {
            assert!(get(&found, key).is_some_and(|value| !value.is_empty()), "{key}");
        }
        assert_eq!(get(&found, "process.pid"), Some(std::process::id().to_string()));
        assert_eq!(get(&found, "telemetry.sdk.language").as_deref(), Some("rust"));
        assert!(found.iter().all(|(key, _)| !key.as_str().contains("command")));
    }

    #[test]
    fn the_instance_id_is_a_uuid_and_stays() {
        assert_eq!(uuid_v4([0, 0]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_v4([u64::MAX; 2]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(instance_id(), instance_id());
        assert_ne!(instance_id(), uuid_v4([0, 0]));
    }
}
