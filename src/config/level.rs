//! How much a log line matters.

use crate::labelled::labelled;

labelled! {
    /// How much a line matters. A line is written if the log's level is as high or higher.
    #[allow(missing_docs, reason = "the names are the ones every log has")]
    #[derive(Default)]
    Level {
        Error "error",
        Warn "warn",
        #[default]
        Info "info",
        Debug "debug",
    }
}

impl Level {
    /// The name that Google's log collectors read from the field `severity`.
    pub fn severity(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARNING",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
        }
    }
}
