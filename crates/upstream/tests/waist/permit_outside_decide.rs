// A spent permit cannot be turned back into one.
use bartizan_decide::{Permit, PermitParts};
use bartizan_model::action::ModelCall;

fn again(parts: PermitParts) -> Permit<ModelCall> {
    Permit { parts, operation: std::marker::PhantomData }
}

fn main() {}
