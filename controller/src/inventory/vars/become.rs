//! Programs that make one root.

/// What sudo asks with, so that a password is sent when and only when it is asked for.
const SUDO_PROMPT: &str = "PCOV1-ASK:";

/// What su asks with, in the locale that the script sets.
const SU_PROMPT: &str = "assword: ";

/// A program that makes one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BecomeMethod {
    Sudo,
    Doas,
    Su,
}

impl BecomeMethod {
    pub(crate) const ALL: [Self; 3] = [Self::Sudo, Self::Doas, Self::Su];

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sudo => "sudo",
            Self::Doas => "doas",
            Self::Su => "su",
        }
    }

    /// What it asks for the password with; doas asks at a terminal only.
    pub(crate) const fn prompt(self) -> Option<&'static str> {
        match self {
            Self::Sudo => Some(SUDO_PROMPT),
            Self::Su => Some(SU_PROMPT),
            Self::Doas => None,
        }
    }
}
