//! What goes wrong around the agents: ends, copies, other addresses, partitions, captive portals, clocks that jump.

use kilter_types::Micros;

use super::Fleet;
use super::agent::End;
use super::event::Event;
use super::truth::Broken;

impl Fleet {
    /// A burst of records, and now and then trouble with it.
    pub(super) fn produce(&mut self, agent: usize) -> Result<(), Broken> {
        if self.clear {
            return Ok(());
        }
        let interval_us = self.random.between(1, self.config.record_interval_us * 2);
        self.world.push_in(interval_us, Event::Produce(agent));
        if self.random.chance_ppm(self.weather.end_agent_ppm) {
            // Soon enough that something may wait for its sync.
            let delay_us = self.random.below(400_000);
            self.world.push_in(delay_us, Event::EndAgent(agent, self.agents[agent].boot));
        }
        if self.random.chance_ppm(self.weather.partition_ppm) {
            self.world.push_in(0, Event::Partition(agent));
        }
        if self.random.chance_ppm(self.weather.rebind_ppm) {
            let delay_us = self.random.below(400_000);
            self.world.push_in(delay_us, Event::Rebind(agent));
        }
        if self.random.chance_ppm(self.weather.portal_ppm) {
            let delay_us = self.random.below(400_000);
            self.world.push_in(delay_us, Event::Portal(agent));
        }
        if self.random.chance_ppm(self.weather.fill_disk_ppm) {
            self.world.push_in(0, Event::FillDisk(agent));
        }
        if self.random.chance_ppm(self.weather.fail_sync_ppm) {
            self.agents[agent].fail_sync();
        }
        // Every other agent has a node.
        if agent % 2 == 1 && self.random.chance_ppm(self.weather.start_node_ppm) {
            self.agents[agent].start_node();
            self.outcome.node_starts += 1;
        }
        self.agents[agent].produce(&mut self.world)
    }

    pub(super) fn end_agent(&mut self, agent: usize, boot: u64) {
        if self.clear || self.agents[agent].boot != boot || self.agents[agent].run.is_none() {
            return;
        }
        let end = match self.random.below(10) {
            0..=3 => End::Kill,
            4..=8 => End::PowerCut,
            _ => End::OlderImage,
        };
        self.agents[agent].end(end, &mut self.world);
        self.outcome.agent_ends += 1;
        let delay_us = self.random.between(1_000_000, 120_000_000);
        self.world.push_in(delay_us, Event::Start(agent));
    }

    /// Somebody starts a second agent from a copy of the first one's disk.
    pub(super) fn copy(&mut self, agent: usize) {
        if self.clear {
            return;
        }
        let slot = self.agents.len();
        self.agents.push(self.agents[agent].copy(slot, self.seed, &self.weather.link));
        self.partitioned.push(false);
        self.outcome.copies += 1;
        self.world.push_in(1_000_000, Event::Start(slot));
        self.world.push_in(2_000_000, Event::Produce(slot));
    }

    /// The agent's address changes under its connection: what either side sends goes nowhere, and nobody is told.
    pub(super) fn rebind(&mut self, agent: usize) {
        if self.clear {
            return;
        }
        self.outcome.rebinds += 1;
        self.agents[agent].rebound = true;
        self.agents[agent].up.set_partitioned(true);
        self.agents[agent].down.set_partitioned(true);
    }

    pub(super) fn partition(&mut self, agent: usize, partitioned: bool) {
        if partitioned && (self.clear || self.partitioned[agent]) {
            return;
        }
        self.partitioned[agent] = partitioned;
        let silent = partitioned || self.agents[agent].rebound;
        self.agents[agent].up.set_partitioned(silent);
        self.agents[agent].down.set_partitioned(silent);
        if partitioned {
            self.outcome.partitions += 1;
            let longest_us = [60_000_000, 600_000_000, 3_600_000_000][self.random.below(3) as usize];
            let delay_us = self.random.between(1_000_000, longest_us);
            self.world.push_in(delay_us, Event::Heal(agent));
        }
    }

    /// From here on something that is not our server answers whatever the agent sends. A connection that there was belongs to it too, and
    /// its keep-alive finds that out within a minute and a half.
    pub(super) fn portal(&mut self, agent: usize) {
        if self.clear || self.agents[agent].portal {
            return;
        }
        self.outcome.portals += 1;
        (self.agents[agent].portal, self.agents[agent].astray) = (true, true);
        self.world.push_in(90_000_000, Event::Unmask(agent));
        let delay_us = self.random.between(10_000_000, 1_800_000_000);
        self.world.push_in(delay_us, Event::PortalEnds(agent));
    }

    /// Somebody has signed in. Connections to the portal are reset.
    pub(super) fn portal_ends(&mut self, agent: usize) {
        self.agents[agent].portal = false;
        self.unmask(agent);
    }

    pub(super) fn unmask(&mut self, agent: usize) {
        if self.agents[agent].astray {
            self.agents[agent].disconnect(&mut self.world);
        }
    }

    /// What a captive portal says to a frame: nothing, a page, noise, the frame itself, or that with a bit turned or its end missing.
    pub(super) fn answer_as_portal(&mut self, agent: usize, mut frame: Vec<u8>) {
        let answer = match self.random.below(6) {
            0 => return,
            1 => PAGE.to_vec(),
            2 => (0..self.random.between(1, 600)).map(|_| self.random.next_u64() as u8).collect(),
            3 => frame,
            4 => {
                let at = self.random.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << self.random.below(8);
                frame
            }
            _ => {
                frame.truncate(self.random.below(frame.len() as u64) as usize);
                frame
            }
        };
        for at_us in self.agents[agent].down.send(self.world.now_us(), &answer) {
            self.world.schedule.push(at_us, Event::Down(agent));
        }
    }

    /// The wall jumps to 1970 or 2036, the oscillator changes its pace; the monotonic time goes on.
    pub(super) fn jump(&mut self, agent: usize) {
        let offset = [-1_700_000_000, 400_000_000][self.random.below(2) as usize];
        let clock = &mut self.agents[agent].clock;
        clock.set_wall(Micros::from_secs(offset), Micros::from_secs(2));
        clock.set_drift_ppm(self.random.between(0, 180) as i32 - 90);
    }
}

const PAGE: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/sign-in\r\nContent-Length: 0\r\n\r\n";
