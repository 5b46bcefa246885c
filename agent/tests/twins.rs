//! Against real servers: two primaries that were promoted from the same place, the second without
//! having heard of the first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use failover::comply::{Action, Divergence};
use failover::{Epoch, Generation};
use support::{Site, World, id, play};

async fn timeline(site: &Site) -> String {
    let query = "select timeline_id::text from pg_control_checkpoint()";
    site.sql("checkpoint").await;
    site.sql(query).await.unwrap_or_default()
}

/// I-01, I-05: the second primary's timeline is its own, so whoever followed the first is turned
/// away and does not acknowledge what it never received.
#[test]
fn i05_two_primaries_from_one_place_never_share_a_timeline() {
    play("i05_two_primaries_from_one_place_never_share_a_timeline", async {
        let world = World::new(&["a", "b", "c", "d"]);
        let a = world.first("a", &["b"]).await;
        let b = world.second("b", &a).await;
        let c = world.second("c", &a).await;
        let d = world.second("d", &a).await;
        a.until_proven(Epoch(1)).await;
        a.act(Action::Fence { reason: "test".into() }).await;
        for site in [&b, &c, &d] {
            site.act(Action::Seal { epoch: Epoch(1) }).await;
        }
        // `b` leads epoch 2, and `d` alone hears of it.
        world.lead(&b, 2, &["d"], 2);
        b.act(Action::Accept { epoch: Epoch(2) }).await;
        b.act(Action::Promote).await;
        world.follow(&d, 2, "b");
        d.act(Action::Follow { upstream: id("b") }).await;
        d.until_streaming().await;
        b.until_proven(Epoch(2)).await;
        b.act(Action::Enforce { generation: Generation(2) }).await;
        assert_eq!(timeline(&b).await, "2");
        b.act(Action::Fence { reason: "test".into() }).await;
        // `c` leads epoch 3 from where `a` ended.
        c.act(Action::Seal { epoch: Epoch(2) }).await;
        world.lead(&c, 3, &["d"], 3);
        c.act(Action::Accept { epoch: Epoch(3) }).await;
        c.act(Action::Promote).await;
        assert_eq!(timeline(&c).await, "3");
        d.act(Action::Seal { epoch: Epoch(2) }).await;
        world.follow(&d, 3, "c");
        d.act(Action::Follow { upstream: id("c") }).await;
        d.until("turned away", |local| local.divergence != Divergence::None).await;
        // And the first one is rewound to where they parted.
        world.follow(&b, 3, "c");
        let rewound = b.try_act(Action::Rewind { upstream: id("c") }).await;
        if rewound.is_err() {
            b.act(Action::Clone { upstream: id("c") }).await;
        }
        b.act(Action::StartStandby { upstream: Some(id("c")) }).await;
        b.until_streaming().await;
        let markers = "select string_agg(epoch::text, ',' order by epoch) from baton.marker";
        assert_eq!(b.sql(markers).await.as_deref(), Some("1"));
    });
}
