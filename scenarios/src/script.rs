//! The language of scenarios: one TOML file a disaster.
