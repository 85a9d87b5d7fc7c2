//! One event after the other, each to the one it happens to.

use super::event::Event;
use super::truth::{Broken, broken};
use super::{ASK_US, Fleet, PATIENCE_US};
use crate::Random;
use crate::link::LinkConfig;

impl Fleet {
    pub(super) fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Start(agent) => self.agents[agent].start(&mut self.world),
            Event::Produce(agent) => self.produce(agent),
            Event::Sync(agent, boot) if self.agents[agent].boot == boot => self.agents[agent].sync(&mut self.world),
            Event::Wake(agent, boot) if self.agents[agent].boot == boot => self.agents[agent].wake(&mut self.world),
            Event::Connect(agent, boot) if self.agents[agent].boot == boot => self.connect(agent),
            Event::Up(agent) => self.arrive(agent),
            Event::Down(agent) => self.agents[agent].receive(&mut self.world),
            Event::ServerStart => self.start_server(),
            Event::ServerSync(boot) => self.sync_server(boot),
            Event::Tick => self.tick(),
            Event::Snapshot => self.snapshot(),
            Event::LabStart(boot) => self.start_lab(boot),
            Event::LabTurn => self.turn_lab(),
            Event::Inspect => self.inspect(),
            trouble => {
                self.befall(trouble);
                Ok(())
            }
        }
    }

    /// What happens to somebody and can break nothing by itself.
    fn befall(&mut self, trouble: Event) {
        match trouble {
            Event::EndAgent(agent, boot) => self.end_agent(agent, boot),
            Event::Image(agent) => self.agents[agent].take_image(),
            Event::Copy(agent) => self.copy(agent),
            Event::Rebind(agent) => self.rebind(agent),
            Event::FillDisk(agent) => {
                self.agents[agent].fill_disk(true);
                self.outcome.disks_full += 1;
                let delay_us = self.random.between(1_000_000, 1_800_000_000);
                self.world.push_in(delay_us, Event::FreeDisk(agent));
            }
            Event::FreeDisk(agent) => self.agents[agent].fill_disk(false),
            Event::FillServer => {
                let used: u64 = self.disk.files().iter().map(|(_, bytes)| *bytes).sum();
                self.disk.set_capacity_bytes(Some(used + 4096));
                self.outcome.disks_full += 1;
                let delay_us = self.random.between(1_000_000, 3_600_000_000);
                self.world.push_in(delay_us, Event::FreeServer);
            }
            Event::FreeServer => self.disk.set_capacity_bytes(None),
            Event::Partition(agent) => self.partition(agent, true),
            Event::Heal(agent) => self.partition(agent, false),
            Event::Portal(agent) => self.portal(agent),
            Event::PortalEnds(agent) => self.portal_ends(agent),
            Event::Unmask(agent) => self.unmask(agent),
            Event::Jump(agent) => self.jump(agent),
            Event::EndServer(boot) if boot == self.boot && self.server.is_some() => self.end_server(),
            Event::Publish(boot) if boot == self.boot && self.lab.is_some() => self.publish(),
            Event::Lose(agent) => {
                let mut random = Random::new(self.seed, 100 + agent as u64);
                self.world.lake.lose(agent, &mut random);
            }
            Event::Ask => {
                self.world.push_in(ASK_US, Event::Ask);
                if let Some(server) = &mut self.server {
                    self.world.lake.asks().into_iter().for_each(|(agent, ask)| server.ask(agent, ask));
                }
            }
            Event::Clear => self.clear_up(),
            // Of a start that is over.
            _ => {}
        }
    }

    fn sync_server(&mut self, boot: u64) -> Result<(), Broken> {
        if let Some(server) = self.server.as_mut().filter(|_| self.boot == boot) {
            self.sync_planned = false;
            server.sync()?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Broken> {
        self.world.push_in(60_000_000, Event::Tick);
        // The lab reads all the time; for a turn little is left.
        self.lab.as_mut().map_or(Ok(()), |lab| lab.read(&self.world))?;
        self.server.as_mut().map_or(Ok(()), |server| server.tick(&self.world))
    }

    /// A large fleet's state takes longer to write, and is written more seldom.
    fn snapshot(&mut self) -> Result<(), Broken> {
        let interval_us = 60_000_000 * u64::from(self.config.scale()).min(10);
        self.world.push_in(interval_us, Event::Snapshot);
        self.server.as_mut().map_or(Ok(()), |server| server.snapshot(&mut self.kept))
    }

    /// The weather is over: good links, nobody dies any more, nothing new is recorded.
    fn clear_up(&mut self) {
        self.clear = true;
        self.disk.set_capacity_bytes(None);
        for agent in 0..self.agents.len() {
            self.agents[agent].rebound = false;
            self.agents[agent].fill_disk(false);
            self.agents[agent].up.set_config(LinkConfig::good());
            self.agents[agent].down.set_config(LinkConfig::good());
            self.portal_ends(agent);
            self.partition(agent, false);
        }
        self.world.push_in(10_000_000, Event::Inspect);
    }

    fn inspect(&mut self) -> Result<(), Broken> {
        if self.world.now_us() > self.config.weather_us + PATIENCE_US {
            let waiting = self.agents.iter().filter(|agent| !agent.is_drained());
            let told: Vec<String> = waiting.map(|agent| agent.waits_for(&self.world)).collect();
            return broken("D1 D4", format!("long after the weather cleared {}", told.join("; ")));
        }
        self.world.push_in(10_000_000, Event::Inspect);
        Ok(())
    }
}
