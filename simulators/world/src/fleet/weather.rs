//! How often what goes wrong: drawn by each seed, planned for the whole run where it happens once.

use super::event::Event;
use super::{ASK_US, Fleet, FleetConfig};
use crate::Random;
use crate::link::LinkConfig;

/// How often what goes wrong, in a million.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) link: LinkConfig,
    /// Per burst of records.
    pub(super) end_agent_ppm: u32,
    /// Per burst of records.
    pub(super) partition_ppm: u32,
    /// Per burst of records.
    pub(super) rebind_ppm: u32,
    /// Per burst of records.
    pub(super) portal_ppm: u32,
    /// Per burst of records.
    pub(super) fill_disk_ppm: u32,
    /// Per burst of records.
    pub(super) fail_sync_ppm: u32,
    /// Per burst of records, of the node behind an agent that has one.
    pub(super) start_node_ppm: u32,
    /// Per agent and run.
    copy_ppm: u32,
    /// Per frame at the aggregator.
    pub(super) end_server_ppm: u32,
    /// Per end of the aggregator.
    pub(super) lose_journal_ppm: u32,
    /// Per turn.
    pub(super) end_lab_ppm: u32,
    pub(super) lab_interval_us: u64,
}

impl Weather {
    /// Each kind of trouble is absent, rare or frequent, one by one.
    pub(super) fn draw(random: &mut Random, config: &FleetConfig) -> Self {
        let mut often = |frequent_ppm: u32| [0, frequent_ppm / 8, frequent_ppm][random.below(3) as usize];
        let link = LinkConfig {
            loss_ppm: often(100_000),
            duplicate_ppm: often(100_000),
            reorder_ppm: often(100_000),
            jitter_us: u64::from(often(400_000)),
            ..LinkConfig::good()
        };
        let mut weather = Self {
            link,
            end_agent_ppm: 4_000 + often(25_000),
            partition_ppm: often(20_000),
            rebind_ppm: often(20_000),
            fill_disk_ppm: often(10_000),
            fail_sync_ppm: often(5_000),
            start_node_ppm: often(450_000),
            copy_ppm: often(200_000),
            end_server_ppm: 1_000 + often(3_000),
            lose_journal_ppm: 100_000 + often(500_000),
            end_lab_ppm: often(100_000),
            lab_interval_us: 10_000_000 + u64::from(often(240_000_000)),
            portal_ppm: often(20_000),
        };
        (weather.link.bytes_per_sec, weather.link.max_bytes) =
            [(0, 256 * 1024), (12_000, 64 * 1024), (1_500, 10 * 1024)][random.below(3) as usize];
        if config.steady_links {
            (weather.link.jitter_us, weather.link.reorder_ppm, weather.link.bytes_per_sec) = (0, 0, 0);
        }
        weather.calm(config)
    }

    /// More agents bring more frames, and do not make the aggregator end more often; what a person calls calmer is.
    fn calm(mut self, config: &FleetConfig) -> Self {
        let calm = config.calm.max(1);
        for ppm in [
            &mut self.end_agent_ppm,
            &mut self.partition_ppm,
            &mut self.rebind_ppm,
            &mut self.portal_ppm,
            &mut self.fill_disk_ppm,
            &mut self.fail_sync_ppm,
            &mut self.start_node_ppm,
            &mut self.copy_ppm,
            &mut self.end_server_ppm,
            &mut self.end_lab_ppm,
        ] {
            *ppm /= calm;
        }
        self.end_server_ppm /= config.scale();
        self
    }
}

impl Fleet {
    /// Everything that is known to happen before anything has.
    pub(super) fn plan(&mut self) {
        let (weather_us, agents) = (self.config.weather_us, self.agents.len());
        let schedule = &mut self.world.schedule;
        schedule.push(0, Event::ServerStart);
        schedule.push(0, Event::LabTurn);
        schedule.push(0, Event::Tick);
        schedule.push(0, Event::Snapshot);
        schedule.push(weather_us, Event::Clear);
        schedule.push(ASK_US, Event::Ask);
        // Drawn apart: the same seed has the same weather as without losses.
        let mut losses = Random::new(self.seed, 7);
        for agent in 0..agents {
            schedule.push(losses.below(weather_us), Event::Lose(agent));
        }
        for agent in 0..agents {
            schedule.push(self.random.below(5_000_000), Event::Start(agent));
            schedule.push(self.random.below(self.config.record_interval_us), Event::Produce(agent));
            schedule.push(self.random.below(weather_us), Event::Image(agent));
            schedule.push(self.random.below(weather_us), Event::Jump(agent));
            if self.random.chance_ppm(self.weather.copy_ppm) {
                schedule.push(self.random.below(weather_us), Event::Copy(agent));
            }
        }
        if self.random.chance_ppm(self.weather.fill_disk_ppm.saturating_mul(20)) {
            schedule.push(self.random.below(weather_us), Event::FillServer);
        }
    }
}
