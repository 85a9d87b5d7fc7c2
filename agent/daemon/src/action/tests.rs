//! Actions on a board whose machines get better and worse, with real files and commands.

use std::path::PathBuf;

use kilter_types::{AlarmSource, Cause, Digest, FeatureId, RowRef, Severity};

use super::*;

/// One agent's actions in a folder of its own.
struct Site {
    dir: tempfile::TempDir,
    board: Board,
    actions: Actions,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// Two machines, of which the second has levels. Every command appends its arguments to `commands`.
fn site(dry_run: bool) -> Site {
    let dir = tempfile::tempdir().expect("a folder");
    let board = Board::new(vec![(name("fan-1"), name("fan")), (name("pump-1"), name("pump"))]);
    let appends = format!("printf '%s\\n' \"$*\" >> {}", dir.path().join("commands").display());
    let command = ["sh", "-c", &appends, "sh"].map(str::to_owned).to_vec();
    let config = config::Alarm {
        log_file: dir.path().join("lines"),
        output_file: dir.path().join("output"),
        command: command.clone(),
        dry_run,
        ..config::Alarm::default()
    };
    let text = "healthy = 100.0\nalarm = 70.0\ndanger = 40.5\ntrip = 0.0";
    let mut derate: Derate = toml::from_str(text).expect("good levels");
    (derate.file, derate.command) = (dir.path().join("level"), command);
    derate.check().expect("it can be used");
    let actions = Actions::new(config, board.clone()).with_derates([None, Some(derate)]);
    Site { dir, board, actions }
}

impl Site {
    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.path(file)).ok()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn is(&self, place: usize, severity: Severity, tripped: bool) {
        self.board.machine(place, |machine| {
            machine.known = true;
            machine.summary.severity = severity;
            machine.summary.tripped = tripped;
        });
        self.actions.output();
    }

    /// What lies in output and level.
    fn set(&self) -> [Option<String>; 2] {
        ["output", "level"].map(|file| self.read(file))
    }

    /// The lines of JSON of one kind.
    fn lines(&self, kind: &str) -> Vec<Value> {
        let text = self.read("lines").unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        lines.filter(|line| line["kind"] == kind).collect()
    }

    /// Every command has ended; what they were told.
    fn commands(&self) -> Vec<String> {
        let mut state = self.actions.state.lock().unwrap_or_else(PoisonError::into_inner);
        for mut child in std::mem::take(&mut state.children) {
            assert!(child.wait().expect("it ran").success());
        }
        let mut told: Vec<String> = self.read("commands").unwrap_or_default().lines().map(str::to_owned).collect();
        told.sort_unstable();
        told
    }
}

fn alarm(severity: Severity, state: AlarmState) -> Alarm {
    Alarm {
        id: 7,
        state,
        severity,
        source: AlarmSource::Rule,
        cause: Cause::Unbalance,
        since: Micros(1),
        input: RowRef { group: 0, index: 3, seq: 0 },
        model: Digest::NONE,
        evidence: heapless::Vec::new(),
        contributions: heapless::Vec::new(),
        unjournaled: false,
    }
}

fn texts(output: &str, level: &str) -> [Option<String>; 2] {
    [Some(format!("{output}\n")), Some(format!("{level}\n"))]
}

#[test]
fn output_and_level_follow_the_severity_up_and_down_and_a_trip_is_the_worst() {
    let site = site(false);
    site.is(0, Severity::Healthy, false);
    for (severity, tripped, output, level) in [
        (Severity::Healthy, false, "0", "100"),
        // No level is given for it: the next milder one's holds.
        (Severity::Watch, false, "0", "100"),
        (Severity::Alarm, false, "1", "70"),
        (Severity::Danger, false, "1", "40.5"),
        (Severity::Healthy, true, "1", "0"),
        (Severity::Alarm, false, "1", "70"),
        (Severity::Healthy, false, "0", "100"),
    ] {
        site.is(1, severity, tripped);
        assert_eq!(site.set(), texts(output, level), "{severity:?} {tripped}");
    }
    // The other machine sets the output, and no level.
    site.is(0, Severity::Danger, false);
    assert_eq!(site.set(), texts("1", "100"));
    let told: Vec<(f64, Value)> = site
        .lines("derate")
        .iter()
        .map(|line| (line["level"].as_f64().unwrap_or(-1.0), line["severity"].clone()))
        .collect();
    let [healthy, alarm, danger, trip] = ["healthy", "alarm", "danger", "trip"].map(|word| json!(word));
    let expected =
        [(100.0, &healthy), (70.0, &alarm), (40.5, &danger), (0.0, &trip), (70.0, &alarm), (100.0, &healthy)];
    assert_eq!(told, expected.map(|(level, word)| (level, word.clone())));
    let mut expected = ["pump-1 100 healthy", "pump-1 70 alarm", "pump-1 40.5 danger", "pump-1 0 trip"].to_vec();
    expected.extend(["pump-1 70 alarm", "pump-1 100 healthy"]);
    expected.sort_unstable();
    assert_eq!(site.commands(), expected);
}

#[test]
fn after_a_restart_output_and_level_stay_until_the_machine_has_spoken_unless_it_is_tripped() {
    let site = site(false);
    for file in ["output", "level"] {
        std::fs::write(site.path(file), "as before\n").expect("written");
    }
    site.actions.output();
    assert_eq!(site.set(), texts("as before", "as before"));
    site.board.machine(1, |machine| machine.summary.tripped = true);
    site.actions.output();
    assert_eq!(site.set(), texts("1", "0"));
    assert_eq!(site.commands(), ["pump-1 0 trip"]);
}

#[test]
fn alarms_of_the_severity_trips_and_resets_are_told_to_file_and_command_and_milder_ones_to_neither() {
    let site = site(false);
    let (asset, point) = (name("fan-1"), name("de"));
    for (severity, state) in [
        (Severity::Watch, AlarmState::Raised),
        (Severity::Alarm, AlarmState::Raised),
        (Severity::Danger, AlarmState::Changed),
        (Severity::Healthy, AlarmState::Cleared),
    ] {
        site.actions.alarm(&asset, &point, Micros(5), &alarm(severity, state));
    }
    let trip = Trip { feature: FeatureId(0), value: 12.0, limit: 11.0 };
    site.board.machine(0, |machine| machine.summary.tripped = true);
    site.actions.trip(&asset, &point, Micros(6), &trip);
    site.actions.reset(&asset, "anna");
    let severities: Vec<Value> = site.lines("alarm").iter().map(|line| line["severity"].clone()).collect();
    assert_eq!(severities, [json!("alarm"), json!("danger"), json!("healthy")]);
    assert!(site.lines("alarm").iter().all(|line| line["told_us"].is_i64() && line["at_us"] == 5));
    assert_eq!((site.lines("trip")[0]["value"].as_f64(), &site.lines("reset")[0]["by"]), (Some(12.0), &json!("anna")));
    assert_eq!(site.read("output").as_deref(), Some("1\n"), "a trip sets the output at once");
    let told = site.commands();
    assert_eq!(told.len(), 5, "{told:?}");
    for line in site.lines("alarm").into_iter().chain(site.lines("trip")).chain(site.lines("reset")) {
        assert!(told.contains(&line.to_string()), "{line} in {told:?}");
    }
}

#[test]
fn a_dry_run_tells_what_it_would_do_and_does_nothing() {
    let site = site(true);
    site.is(0, Severity::Healthy, false);
    site.is(1, Severity::Danger, false);
    site.is(1, Severity::Danger, false);
    site.actions.alarm(&name("pump-1"), &name("de"), Micros(5), &alarm(Severity::Danger, AlarmState::Raised));
    assert_eq!(site.set(), [None, None]);
    assert_eq!(site.commands(), [""; 0]);
    assert_eq!(site.lines("alarm").len(), 1, "alarms are told as ever");
    assert_eq!(site.lines("derate").len(), 0);
    let would: Vec<(Value, Value)> =
        site.lines("dry_run").into_iter().map(|mut line| (line["would"].take(), line)).collect();
    let words: Vec<&Value> = would.iter().map(|(word, _)| word).collect();
    // The second time at the same severity there is nothing to do.
    assert_eq!(words, ["output", "derate", "command"]);
    assert_eq!(
        (&would[0].1["value"], &would[1].1["level"], &would[1].1["asset"]),
        (&json!(1), &json!(40.5), &json!("pump-1"))
    );
    assert!(would[2].1["line"].as_str().is_some_and(|line| line.contains("\"kind\":\"alarm\"")));
}

#[test]
fn what_could_not_be_done_is_tried_again() {
    let site = site(false);
    std::fs::create_dir(site.path("level")).expect("a folder in its place");
    site.is(1, Severity::Danger, false);
    assert_eq!(site.lines("derate"), [json!(null); 0]);
    std::fs::remove_dir(site.path("level")).expect("removed");
    site.actions.output();
    assert_eq!(site.read("level").as_deref(), Some("40.5\n"));
    assert_eq!(site.lines("derate").len(), 1);
    assert_eq!(site.commands(), ["pump-1 40.5 danger"]);
}
