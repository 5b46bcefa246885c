//! A machine in words, for a run that ended badly.

use super::Host;

impl Host {
    /// What its agent is at and how its PostgreSQL stands.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut words = Vec::new();
        if let Some(agent) = &self.agent {
            let running = agent.beat.running.as_ref();
            let (action, step) =
                running.map_or(("", 0), |r| (super::beat::name(&r.action), r.step));
            let role = agent.assignment.as_ref().map(|known| (known.epoch, &known.role));
            words.push(format!("agent at {action:?} step {step} for {role:?}"));
            words.push(format!("sees {:?}", self.server_seen(agent)));
            words.push(format!(
                "proven {:?}, enforced {:?}, proving {:?}, enforcing {:?}, waits {}, seeing {:?}",
                agent.proven,
                agent.enforced,
                agent.proving,
                agent.enforcing,
                agent.waits,
                agent.seeing
            ));
        }
        let memory = &self.disk.memory;
        words.push(format!("led {:?}, beyond {}, {:?}", memory.led, memory.beyond, self.paused));
        words.push(format!("keys {:?}, file {:?}", self.disk.keys.get(), self.disk.dynamic.get()));
        if let Some(data) = &self.disk.data {
            words.push(format!("log {} on {:?}", data.log.end(), data.log.tree()));
        }
        if let Some(server) = &self.server {
            words.push(format!("{server:?}"));
        }
        words.join("; ")
    }
}
