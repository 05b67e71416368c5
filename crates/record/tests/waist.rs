//! INV-PERMIT in types: what must not compile, and next to it what must.

use bartizan_decide::Permit;
use bartizan_model::action::{ChangeState, ModelCall, ReadLedger};
use bartizan_model::record::End;
use bartizan_model::{DecisionId, Target};
use bartizan_record::{Ended, IntentRecorded, RecordError, Recorder};
use bartizan_store::Store;

/// The one way, which the refused programs leave in one point each: permit, intent, effect, every one spent once.
async fn call(recorder: &Recorder, permit: Permit<ModelCall>, target: Target) -> Result<(), RecordError> {
    let intent: IntentRecorded<ModelCall> = recorder.intend(permit, target).await?;
    intent.begin().finish(Ended::new(End::Done));
    Ok(())
}

async fn change(store: &dyn Store<IntentRecorded<ChangeState>>, intent: &IntentRecorded<ChangeState>) {
    drop(store.apply(intent, Vec::new()).await);
}

async fn read(recorder: &Recorder, intent: &IntentRecorded<ReadLedger>, id: DecisionId) {
    drop(recorder.find(intent, id).await);
}

#[test]
fn inv_permit_an_effect_needs_its_own_recorded_permit_once() {
    let _ = (call, change, read);
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
