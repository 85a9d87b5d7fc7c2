//! Agents and aggregators of two wire versions over real sockets: what an aggregator of version 1 was sent, and what it could read.

use crate::proxy::Weather;
use crate::site::Site;

const FAIR: Weather = Weather { loss_ppm: 0, double_ppm: 10_000, delay_us: 2_000, cut_ppm: 0 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_agent_speaks_version_1_to_an_aggregator_that_reads_nothing_else() {
    let site = Site::start_with(FAIR, 5, 1).await;
    site.produce(400);
    site.wait("all there", |site| site.rows() == 400 && site.released() == site.produced()).await;
    // The site panics at a frame that version 1 can't read; that would end every further message too.
    site.produce(100);
    site.wait("the rest", |site| site.rows() == 500).await;
    assert_eq!(site.arrived_in(2), 0, "nothing is packed before somebody says that it is understood");
    assert!(site.arrived_in(1) > 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_agent_packs_its_batches_for_an_aggregator_that_reads_version_2() {
    let site = Site::start_with(FAIR, 5, 2).await;
    site.produce(400);
    site.wait("all there", |site| site.rows() == 400).await;
    site.produce(100);
    site.wait("the rest", |site| site.rows() == 500).await;
    assert!(site.arrived_in(2) > 0, "batches are packed after a welcome");
    site.end().await;
}
