//! From the setting of a scenario to a world.

use std::time::Duration;

use failover::topology::{OnLastCopy, Topology};
use scenarios::script::setting::{LastCopy, Profile, Setting, Shape};

use crate::presets::{Preset, metro};
use crate::world::{Options, Workload};

/// Why a setting cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The topology file.
    #[error(transparent)]
    Topology(#[from] orchestrator::topology::TopologyError),
}

/// The topology that a setting asks for; files are relative to the scenario's folder.
///
/// # Errors
/// [`SettingError`]
pub fn topology(setting: &Setting, folder: &std::path::Path) -> Result<Topology, SettingError> {
    let on_last_copy = match setting.on_last_copy {
        LastCopy::Block => OnLastCopy::Block,
        LastCopy::SingleCopy => OnLastCopy::SingleCopy,
    };
    let (sites, data_sites) = match &setting.topology {
        Shape::ThreeSites => (3, 3),
        Shape::PairAndWitness => (3, 2),
        Shape::FiveVoters => (5, 3),
        Shape::File(file) => {
            return Ok(orchestrator::topology::read(&folder.join(file))?.topology);
        }
    };
    let timing = match setting.timing {
        Profile::Default => failover::topology::Timing::default(),
        Profile::Metro => metro(),
    };
    let services = usize::try_from(setting.services).unwrap_or(1);
    let preset =
        Preset { sites, data_sites, services, required: setting.required, on_last_copy, timing };
    let mut topology = preset.topology();
    if let Some(window) = setting.failover_window {
        topology.timing.failover_window = window.0;
    }
    if let Some(deadline) = setting.switchover_deadline {
        topology.timing.switchover_deadline = deadline.0;
    }
    Ok(topology)
}

/// The options that a setting asks for.
pub fn options(setting: &Setting) -> Options {
    let load = &setting.workload;
    Options {
        talkative: true,
        workload: Workload {
            writers: load.writers,
            every: load.every.max(Duration::from_millis(1)),
            readers: load.readers,
            stubborn: load.stubborn,
        },
        surveyed: setting.surveyed,
        ..Options::default()
    }
}
