//! Errors as programs see them.

/// An error of WASI preview 1 by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u32);

impl Errno {
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const EXIST: Self = Self(20);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const FBIG: Self = Self(22);
    pub(crate) const ILSEQ: Self = Self(25);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const ISDIR: Self = Self(31);
    pub(crate) const MFILE: Self = Self(33);
    pub(crate) const NAMETOOLONG: Self = Self(37);
    pub(crate) const NOENT: Self = Self(44);
    pub(crate) const NOSPC: Self = Self(51);
    pub(crate) const NOTDIR: Self = Self(54);
    pub(crate) const NOTEMPTY: Self = Self(55);
    pub(crate) const NOTSOCK: Self = Self(57);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const OVERFLOW: Self = Self(61);
    pub(crate) const SPIPE: Self = Self(70);
    pub(crate) const NOTCAPABLE: Self = Self(76);
}
