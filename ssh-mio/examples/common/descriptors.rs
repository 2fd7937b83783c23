//! How many connections a process may have.

/// As many descriptors as the system lets this process have.
pub(crate) fn more() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // Else it has as many as it may.
        _ = setrlimit(Resource::Nofile, limit);
    }
}
