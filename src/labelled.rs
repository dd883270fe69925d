//! Closed sets whose members each have one name.
//!
//! Settings, log lines and metric labels all take their names from here, so what is read, what is
//! shown and what is counted cannot differ. Each member also has a number that tables use as an
//! index.

/// Declares an enum whose members each have a label.
macro_rules! labelled {
    ($(#[$about_set:meta])* $set:ident { $($(#[$about:meta])* $name:ident $label:literal,)* }) => {
        $(#[$about_set])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $set { $($(#[$about])* $name,)* }

        impl $set {
            /// Every member, in the order of their numbers.
            pub const ALL: &[$set] = &[$($set::$name),*];

            /// Every label, in the order of the members.
            pub const LABELS: &[&str] = &[$($label),*];

            /// The name of the member.
            pub fn label(self) -> &'static str {
                match self { $($set::$name => $label),* }
            }

            /// The member with this name.
            pub fn from_label(label: &str) -> Option<$set> {
                match label {
                    $($label => Some($set::$name),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use labelled;
