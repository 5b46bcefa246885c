//! What a person gave up may be lost, and nothing else: what stands up to the position that was
//! shown is demanded as ever, and so is what the chosen one holds behind it.

use failover::cluster::Service;

use super::Oracle;
use super::commits::holds;
use crate::world::Machine;

impl Oracle {
    /// Whether the primary of the new epoch was chosen at a loss that a person accepted; what was
    /// given up is excepted from here on.
    pub(super) fn given_up(
        &mut self,
        position: usize,
        (service, primary): (&Service, Option<usize>),
        machines: &[Machine],
    ) -> Result<bool, String> {
        let open = service.transition.as_ref();
        let Some(given_up) = open.and_then(|open| open.given_up.as_ref()) else { return Ok(false) };
        let (kept, asked) = (given_up.kept.lsn, self.services[position].loss_asked);
        if asked != Some(kept) {
            return Err(format!(
                "I-01: what is behind {kept} is given up, and nobody asked for it"
            ));
        }
        let Some(chosen) =
            primary.filter(|chosen| self.services[position].primary != Some(*chosen))
        else {
            return Ok(false);
        };
        let end = machines[chosen].host.log().map(crate::host::Log::end);
        if end.is_none_or(|end| end < kept) {
            return Err(format!("I-05: {} was chosen and lacks what is kept", self.name(chosen)));
        }
        for number in self.services[position].must.clone() {
            let commit = *self.commit(number);
            if commit.at > kept && !holds(&machines[chosen], number, commit.at) {
                self.commit(number).excepted = true;
            }
        }
        self.reach("a loss was accepted");
        Ok(true)
    }
}
