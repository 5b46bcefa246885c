//! Every action of the law, carried out. Each may be repeated: what is already so is left so.

use crate::instance::{Instance, PerformError};
use crate::start::RoleExt;
use crate::{admission, clone, enforce, follow, isolate, promote, prove, rewind, seal, start};
use failover::comply::Action;
use failover::{Epoch, lease};
use std::sync::Arc;
use std::time::Duration;
use wire::clock::now;

/// Carries an action out. `Prove` and `Enforce` only begin: what they prove shows later.
///
/// # Errors
/// [`PerformError`]; the law asks again.
pub async fn perform(instance: &Arc<Instance>, action: &Action) -> Result<(), PerformError> {
    match action {
        Action::Initialise => start::initialise(instance).await,
        Action::Clone { upstream } => clone::clone(instance, upstream).await,
        Action::Rewind { upstream } => rewind::rewind(instance, upstream).await,
        Action::StartStandby { upstream } => start::standby(instance, upstream.as_ref()).await,
        Action::StartPrimary => start::primary(instance).await,
        Action::Fence { reason } => start::fence(instance, reason).await,
        Action::StopCleanly => start::stop_cleanly(instance).await,
        Action::Seal { epoch } => seal::seal(instance, *epoch).await,
        Action::Accept { epoch } => accept(instance, *epoch),
        Action::Promote => promote::promote(instance).await,
        Action::Enforce { generation } => enforce::enforce(instance, *generation).await,
        Action::Prove { epoch } => prove::prove(instance, *epoch),
        Action::Prepare { epoch } => prepare(instance, *epoch).await,
        Action::Follow { upstream } => follow::follow(instance, upstream).await,
        Action::Admit => admit(instance).await,
        Action::Isolate { drill, at_most } => isolate::begin(instance, *drill, *at_most).await,
    }
}

/// Whether an action may take long, and is given up as soon as another is wanted.
pub fn is_long(action: &Action) -> bool {
    matches!(
        action,
        Action::Initialise
            | Action::Clone { .. }
            | Action::Rewind { .. }
            | Action::Prepare { .. }
            | Action::StopCleanly
    )
}

fn accept(instance: &Instance, epoch: Epoch) -> Result<(), PerformError> {
    let assignment = instance.assignment()?;
    if assignment.epoch != epoch || !assignment.role_is_primary() {
        return Err(PerformError::Stale("the epoch is another now"));
    }
    instance.promises.grant(epoch)?;
    let mut state = instance.state();
    state.proven = None;
    state.leased = None;
    state.committed = None;
    drop(state);
    instance.speak.notify_one();
    Ok(())
}

async fn prepare(instance: &Instance, epoch: Epoch) -> Result<(), PerformError> {
    let connection = instance.access.connect().await?;
    connection.execute("checkpoint", Duration::from_hours(1)).await?;
    instance.state().prepared = Some(epoch);
    instance.speak.notify_one();
    Ok(())
}

/// Lets clients in; a primary only on a valid lease, with the guard's deadline set before.
async fn admit(instance: &Instance) -> Result<(), PerformError> {
    let assignment = instance.assignment()?;
    if assignment.role_is_primary() {
        let leased = || lease::is_valid(&instance.local(), &assignment.timing, now());
        let ended = || PerformError::Stale("the lease has ended");
        if !leased() {
            return Err(ended());
        }
        guard_lease(instance).await?;
        // The guard may have stood still for longer than the lease lasted.
        if !leased() {
            return Err(ended());
        }
        instance.state().serves = true;
    }
    admission::open(&instance.layout, &assignment.client_access)?;
    instance.reload().await?;
    instance.speak.notify_one();
    Ok(())
}

/// Tells the guard until when the evidence lasts.
///
/// # Errors
/// [`PerformError::Guard`]
pub async fn guard_lease(instance: &Instance) -> Result<(), PerformError> {
    let timing = instance.timing();
    let proof = {
        let state = instance.state();
        state.leased.max(state.committed)
    };
    if let Some(proof) = proof {
        let end = proof.after(crate::guard::patience(&timing));
        instance.guard()?.refresh(Some(end)).await?;
    }
    Ok(())
}
