//! What people write: the configurations of agent, aggregator and lab.

/// The agent's.
pub(crate) fn config(bytes: &[u8]) {
    holds(bytes, kilter_agent_config::check_config);
}

/// The aggregator's.
pub(crate) fn aggregator(bytes: &[u8]) {
    holds(bytes, kilter_aggregator_config::check_config);
}

/// The lab's, beside a lake with some tables.
pub(crate) fn lab(bytes: &[u8]) {
    holds(bytes, |text| {
        kilter_lab_config::Config::parse(text, &["features", "gaps"]).map(drop).map_err(|error| error.to_string())
    });
}

/// Any text is taken, or refused with words; what is taken stays so with a comment behind it.
fn holds(bytes: &[u8], check: fn(&str) -> Result<(), String>) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match check(text) {
        Ok(()) => assert_eq!(check(&format!("{text}\n# and so on\n")), Ok(())),
        Err(reason) => assert!(!reason.trim().is_empty(), "refused without a word"),
    }
}
