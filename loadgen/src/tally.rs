//! Counters that add up: declare a struct of them once, and the operations over its fields follow.

/// Counters, and structs of them.
pub trait Tally {
    /// Adds those of another thread, group or QoS.
    fn add(&mut self, other: &Self);

    /// What was counted since an earlier reading.
    #[must_use]
    fn since(&self, earlier: &Self) -> Self;
}

impl Tally for u64 {
    fn add(&mut self, other: &u64) {
        *self += other;
    }

    fn since(&self, earlier: &u64) -> u64 {
        self - earlier
    }
}

/// Whether something was done: in a sum, whether it was done everywhere.
impl Tally for bool {
    fn add(&mut self, other: &bool) {
        *self &= other;
    }

    fn since(&self, _: &bool) -> bool {
        *self
    }
}

impl<T: Tally, const N: usize> Tally for [T; N] {
    fn add(&mut self, other: &[T; N]) {
        let pairs = self.iter_mut().zip(other);
        pairs.for_each(|(mine, theirs)| mine.add(theirs));
    }

    fn since(&self, earlier: &[T; N]) -> [T; N] {
        std::array::from_fn(|at| self[at].since(&earlier[at]))
    }
}

/// Declares a struct all of whose fields add up and have differences.
macro_rules! tally {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$what:meta])* pub $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$about])*
        pub struct $name {
            $($(#[$what])* pub $field: $kind,)*
        }

        impl $crate::tally::Tally for $name {
            fn add(&mut self, other: &$name) {
                $($crate::tally::Tally::add(&mut self.$field, &other.$field);)*
            }

            fn since(&self, earlier: &$name) -> $name {
                $name { $($field: $crate::tally::Tally::since(&self.$field, &earlier.$field),)* }
            }
        }
    };
}

pub(crate) use tally;
