//! What has keys that a user sets: the scenario, and its tables.

use std::collections::HashMap;

use ringmq_problem::{Complaint, Place, Problem};

use super::keys::Key;

/// Has keys, and knows where each was set.
pub trait Keyed: Sized + 'static {
    /// Where its keys were set, and where it begins itself.
    fn places(&self) -> (&HashMap<&'static str, Place>, &Place);

    /// Where its keys were set.
    fn places_mut(&mut self) -> &mut HashMap<&'static str, Place>;

    /// How messages call a key of it.
    fn subject(&self, key: &str) -> String;

    /// Sets a key and notes where.
    fn set(
        &mut self,
        key: &'static Key<Self>,
        texts: &[&str],
        place: Place,
    ) -> Result<(), Problem> {
        match (key.set)(self, texts) {
            Ok(()) => {
                self.places_mut().insert(key.name, place);
                Ok(())
            }
            Err(complaint) => Err(complaint.at(place, self.subject(key.name))),
        }
    }

    /// What is wrong with a key, at the place where it was set, or else where what has it begins.
    fn problem(&self, key: &str, complaint: Complaint) -> Problem {
        let (places, begin) = self.places();
        complaint.at(places.get(key).unwrap_or(begin).clone(), self.subject(key))
    }

    /// The same, in words.
    fn complain(&self, key: &str, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        self.problem(key, Complaint::new(what, fix))
    }
}

/// Implements [`Keyed`] for what has the fields `places` and `place`.
macro_rules! keyed {
    ($kind:ty, $subject:expr) => {
        impl $crate::scenario::Keyed for $kind {
            fn places(&self) -> (&HashMap<&'static str, Place>, &Place) {
                (&self.places, &self.place)
            }

            fn places_mut(&mut self) -> &mut HashMap<&'static str, Place> {
                &mut self.places
            }

            fn subject(&self, key: &str) -> String {
                let subject: fn(&Self, &str) -> String = $subject;
                subject(self, key)
            }
        }
    };
}
pub(super) use keyed;
