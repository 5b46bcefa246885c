//! How two topologies differ, key by key, as `baton plan` shows it.

use std::collections::BTreeMap;

use failover::topology::Topology;
use serde::Serialize;
use serde_json::Value;

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its dotted path: `services.clinic.required`.
    pub key: String,
    /// What the cluster has; `None`: the key is new.
    pub now: Option<Value>,
    /// What the file says; `None`: the key is gone.
    pub then: Option<Value>,
}

/// Every key that differs, in the order of their paths.
#[must_use]
pub fn diff(now: &Topology, then: &Topology) -> Vec<Difference> {
    let (mut now, then) = (flat(now), flat(then));
    let mut differences = Vec::new();
    for (key, value) in then {
        let old = now.remove(&key);
        if old.as_ref() != Some(&value) {
            differences.push(Difference { key, now: old, then: Some(value) });
        }
    }
    let gone = now.into_iter().map(|(key, old)| Difference { key, now: Some(old), then: None });
    differences.extend(gone);
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    differences
}

fn flat(topology: &Topology) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    let value = serde_json::to_value(topology).expect("a topology is plain data with text keys");
    descend(String::new(), value, &mut leaves);
    leaves
}

fn descend(path: String, value: Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let inner = if path.is_empty() { name } else { format!("{path}.{name}") };
                descend(inner, field, leaves);
            }
        }
        leaf @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => {
            leaves.insert(path, leaf);
        }
    }
}
