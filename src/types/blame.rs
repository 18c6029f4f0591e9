//! Whose fault an error is; alerts look at `Model` and `Server`, load at `Capacity`.

/// Who would have to act for the error not to happen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request: nothing on this side would have made it succeed.
    Client,
    /// Load: the same request would have succeeded at a quieter moment.
    Capacity,
    /// The model or its package.
    Model,
    /// Linesight or the machine it runs on.
    Server,
}
