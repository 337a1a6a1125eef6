//! Shared set-up of the criterion suites.
