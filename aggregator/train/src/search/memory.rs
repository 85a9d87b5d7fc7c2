//! A log in memory, for tests: it can be cut, and it can be full.

use super::TrialLog;

#[derive(Default)]
pub(crate) struct MemoryLog {
    pub(crate) lines: Vec<String>,
    /// Lines that still fit.
    pub(crate) room: Option<usize>,
}

impl MemoryLog {
    pub(crate) fn from_text(text: &str) -> Self {
        Self { lines: text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect(), room: None }
    }
}

impl TrialLog for MemoryLog {
    fn lines(&mut self) -> std::io::Result<Vec<String>> {
        Ok(self.lines.clone())
    }

    fn add(&mut self, line: &str) -> std::io::Result<()> {
        match &mut self.room {
            Some(0) => return Err(std::io::ErrorKind::StorageFull.into()),
            Some(room) => *room -= 1,
            None => {}
        }
        self.lines.push(line.to_owned());
        Ok(())
    }
}
