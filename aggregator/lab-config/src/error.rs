//! What a configuration can be refused for.

/// What is wrong with it; reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no TOML, or a key or a value does not belong there.
    #[error(transparent)]
    Text(#[from] toml::de::Error),
    /// A view's name is written as it stands in questions.
    #[error("name a view '{0}': it has other letters than a-z, 0-9 and _")]
    ViewName(String),
    /// A view would hide a table.
    #[error("name a view '{0}': it is a table")]
    ViewTable(String),
    /// What is kept for a time is a class or the quarantine; gaps are the account of what is missing and stay.
    #[error("take [upkeep] keep_days: '{0}' is no class that can go")]
    KeptClass(String),
    /// It would be kept for no time.
    #[error("take [upkeep] keep_days: {0} would go at once")]
    KeptDays(String),
    /// Not a share.
    #[error("take [training] processor_share {0}: it must be above 0 and at most 1")]
    ProcessorShare(f32),
    /// Too few to divide.
    #[error("take [training] least_lives {0}: fewer than 4 divide into nothing that judges")]
    LeastLives(usize),
    /// It would train again without having learned more.
    #[error("take [again] growth {0}: it must be above 1, or 0 for never")]
    Growth(f32),
    /// Two ways of telling when.
    #[error("take both [training] at and every_secs: one of them says when")]
    TwoTimetables,
    /// Not a time of day.
    #[error("take [training] at '{0}': it must be a time of day in UTC like \"02:30\"")]
    TimeOfDay(String),
}
