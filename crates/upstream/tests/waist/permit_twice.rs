// A permit is spent by recording it.
use bartizan_decide::Permit;
use bartizan_model::Target;
use bartizan_model::action::ModelCall;
use bartizan_record::Recorder;

async fn twice(recorder: Recorder, permit: Permit<ModelCall>) {
    let _ = recorder.intend(permit, Target::House).await;
    let _ = recorder.intend(permit, Target::House).await;
}

fn main() {}
