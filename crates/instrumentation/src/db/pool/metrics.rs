//! The connections of a pool as instruments of the OpenTelemetry API.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use sqlx::Database;

use super::TracedPool;

impl<DB: Database> TracedPool<DB> {
    /// Reports the pool's connections to a meter, by the semantic conventions:
    /// `db.client.connection.count` (with `db.client.connection.state`, `idle` or `used`) and
    /// `db.client.connection.max`, each with `db.client.connection.pool.name`. They are read when
    /// metrics are collected, for as long as the meter's provider lives, which keeps a handle of the
    /// pool. To be called once for a pool. How long a connection was waited for is an attribute of
    /// the spans.
    pub fn observe(&self, meter: &Meter, name: impl Into<String>) {
        let name = KeyValue::new("db.client.connection.pool.name", name.into());
        let (pool, attributes) = (self.inner().clone(), [name.clone()]);
        meter
            .i64_observable_up_down_counter("db.client.connection.max")
            .with_description("The most connections that the pool may open.")
            .with_unit("{connection}")
            .with_callback(move |observer| {
                let max = pool.options().get_max_connections();
                observer.observe(i64::from(max), &attributes);
            })
            .build();
        let pool = self.inner().clone();
        meter
            .i64_observable_up_down_counter("db.client.connection.count")
            .with_description("Connections of the pool, by their state.")
            .with_unit("{connection}")
            .with_callback(move |observer| {
                let idle = i64::try_from(pool.num_idle()).unwrap_or(i64::MAX);
                let used = i64::from(pool.size()).saturating_sub(idle).max(0);
                for (state, count) in [("idle", idle), ("used", used)] {
                    let state = KeyValue::new("db.client.connection.state", state);
                    observer.observe(count, &[name.clone(), state]);
                }
            })
            .build();
    }
}
