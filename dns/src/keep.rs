//! Work that goes on: what cannot be survived costs one round of it, not the server (I-27).

use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// So that work which cannot be done at all does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Does `work`, each round as a task of its own, and begins again when it ends or panics. Never
/// ends by itself; dropped, it stops the round that is under way.
pub async fn keep<F>(what: &'static str, mut work: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut round = JoinSet::new();
    loop {
        round.spawn(work());
        if let Some(Err(stop)) = round.join_next().await {
            tracing::error!(%stop, "{what} failed; beginning again");
        }
        sleep(PAUSE).await;
    }
}
