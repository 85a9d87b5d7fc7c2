//! The aggregator's side of the fleet: connections, frames in and out, server and lab that start and end.

use kilter_journal::model::MemoryFilesystem;
use kilter_wire::Up;
use kilter_wire::frame::{self, Kind};

use super::event::Event;
use super::lab::Lab;
use super::server::Server;
use super::truth::Broken;
use super::{Fleet, Plant};

impl Fleet {
    /// A connection; the broker ends the one that the same identity had before. A captive portal connects everybody, to itself.
    pub(super) fn connect(&mut self, agent: usize) -> Result<(), Broken> {
        let Self { agents, world, .. } = self;
        if agents[agent].run.as_ref().is_none_or(|run| run.connected) {
            return Ok(());
        }
        let portal = agents[agent].portal;
        let reachable = (portal || self.server.is_some()) && !self.partitioned[agent];
        if reachable {
            agents[agent].astray = portal;
            agents[agent].up.set_partitioned(false);
            agents[agent].down.set_partitioned(false);
        }
        if reachable && !portal {
            let before = std::mem::replace(&mut self.line[agents[agent].index], agent);
            if before != agent {
                agents[before].disconnect(world);
            }
        }
        agents[agent].connect(reachable, world)
    }

    /// What has come up from an agent.
    pub(super) fn arrive(&mut self, agent: usize) -> Result<(), Broken> {
        while let Some(frame) = self.agents[agent].up.receive(self.world.now_us()) {
            if self.agents[agent].astray {
                self.answer_as_portal(agent, frame);
                continue;
            }
            if !self.is_greeted(agent, &frame) {
                continue;
            }
            let device = self.agents[agent].index;
            let Some(server) = self.server.as_mut().filter(|_| self.line[device] == agent) else { continue };
            let waits = server.handle(device, &frame, &self.world)?;
            if waits && !std::mem::replace(&mut self.sync_planned, true) {
                // Who has answered already is in no hurry.
                let early = self.world.plant == Some(Plant::AggregatorAcksBeforeSync);
                let delay_us = self.random.between(1_000, if early { 1_000_000 } else { 20_000 });
                self.world.push_in(delay_us, Event::ServerSync(self.boot));
            }
            if !self.clear && self.random.chance_ppm(self.weather.end_server_ppm) {
                let delay_us = self.random.below(30_000);
                self.world.push_in(delay_us, Event::EndServer(self.boot));
            }
        }
        Ok(())
    }

    /// A real connection is ordered: nothing comes through it before the introduction, whose epoch the aggregator dates by.
    fn is_greeted(&mut self, agent: usize, frame: &[u8]) -> bool {
        let agent = &mut self.agents[agent];
        agent.greeted = agent.greeted || matches!(frame::decode(Kind::Up, frame), Ok(Up::Hello(_)));
        agent.greeted
    }

    /// What the server has to say goes onto the links.
    pub(super) fn deliver(&mut self) {
        let Some(server) = self.server.as_mut().filter(|server| !server.outbox.is_empty()) else { return };
        for (device, frame) in server.outbox.drain(..) {
            let (agent, now_us) = (self.line[device], self.world.now_us());
            if self.agents[agent].astray {
                continue;
            }
            for at_us in self.agents[agent].down.send(now_us, &frame) {
                self.world.schedule.push(at_us, Event::Down(agent));
            }
        }
    }

    pub(super) fn start_server(&mut self) -> Result<(), Broken> {
        if self.server.is_some() {
            return Ok(());
        }
        self.boot += 1;
        self.sync_planned = false;
        let fresh_id = self.random.next_u64();
        let agents = self.config.agents;
        self.server = Server::start(&self.disk, &self.journal_config, &self.kept, agents, fresh_id, &self.world)?;
        if self.server.is_none() {
            self.world.push_in(10_000_000, Event::ServerStart);
            return Ok(());
        }
        let delay_us = self.random.below(10_000_000);
        self.world.push_in(delay_us, Event::LabStart(self.boot));
        Ok(())
    }

    /// The aggregator's machine or process ends; now and then its journal is lost with it.
    pub(super) fn end_server(&mut self) {
        if self.world.plant == Some(Plant::MarksOutliveJournal) {
            self.kept.outlived = self.server.as_ref().map(Server::marks).unwrap_or_default();
        }
        (self.server, self.lab) = (None, None);
        self.outcome.aggregator_ends += 1;
        if self.random.below(2) == 0 {
            self.disk.crash(self.random.next_u64());
        } else {
            self.disk.kill();
        }
        if self.random.chance_ppm(self.weather.lose_journal_ppm) {
            self.disk = MemoryFilesystem::new();
            self.outcome.journals_lost += 1;
        }
        for agent in self.agents.iter_mut().filter(|agent| !agent.astray) {
            agent.disconnect(&mut self.world);
        }
        let delay_us = self.random.between(1_000_000, 60_000_000);
        self.world.push_in(delay_us, Event::ServerStart);
    }

    pub(super) fn start_lab(&mut self, boot: u64) -> Result<(), Broken> {
        if let Some(server) = self.server.as_ref().filter(|_| self.boot == boot) {
            self.lab = Some(Lab::start(&self.disk, server.id(), self.config.agents, self.apart, &self.world)?);
            self.publish();
        }
        Ok(())
    }

    pub(super) fn turn_lab(&mut self) -> Result<(), Broken> {
        let interval_us = self.random.between(1_000_000, self.weather.lab_interval_us);
        self.world.push_in(interval_us, Event::LabTurn);
        let Some(lab) = &mut self.lab else { return Ok(()) };
        if lab.turn(&mut self.world)? {
            // Between the commit and the word about it lies time in which anyone may die.
            let delay_us = self.random.below(3_000_000);
            self.world.push_in(delay_us, Event::Publish(self.boot));
        }
        if !self.clear && self.random.chance_ppm(self.weather.end_lab_ppm) {
            self.lab = None;
            let delay_us = self.random.between(1_000_000, 600_000_000);
            self.world.push_in(delay_us, Event::LabStart(self.boot));
        }
        Ok(())
    }

    /// The server hears of what is committed.
    pub(super) fn publish(&mut self) {
        let Some(commit) = &self.world.lake.commit else { return };
        self.kept.committed = Some((commit.journal_id, commit.offset, commit.marks.clone()));
        if let Some(server) = &mut self.server {
            server.committed(&self.kept);
        }
    }
}
