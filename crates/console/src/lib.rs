//! Pages for people: login, consent, and what acts in one's name. Rendered here, without scripts where none is needed, under
//! a content security policy that allows nothing inline.
