//! What people write: the agent's configuration.

use kilter_agent_config::check_config;

/// Any text is taken, or refused with words; what is taken stays so with a comment behind it.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match check_config(text) {
        Ok(()) => assert_eq!(check_config(&format!("{text}\n# and so on\n")), Ok(())),
        Err(reason) => assert!(!reason.trim().is_empty(), "refused without a word"),
    }
}
