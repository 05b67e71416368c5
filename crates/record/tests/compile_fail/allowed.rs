//! The one way: permit, intent, effect, each spent once.
use bartizan_decide::Permit;
use bartizan_model::Target;
use bartizan_model::action::{ChangeState, ModelCall};
use bartizan_model::record::End;
use bartizan_record::{Ended, IntentRecorded, RecordError, Recorder};
use bartizan_store::Store;

async fn call(recorder: &Recorder, permit: Permit<ModelCall>, target: Target) -> Result<(), RecordError> {
    let intent: IntentRecorded<ModelCall> = recorder.intend(permit, target).await?;
    intent.begin().finish(Ended::new(End::Done));
    Ok(())
}

async fn change(store: &dyn Store<IntentRecorded<ChangeState>>, intent: &IntentRecorded<ChangeState>) {
    drop(store.apply(intent, Vec::new()).await);
}

fn main() {
    let _ = (call, change);
}
