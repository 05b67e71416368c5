use bartizan_decide::Permit;
use bartizan_model::Target;
use bartizan_model::action::ModelCall;
use bartizan_record::Recorder;

async fn twice(recorder: &Recorder, permit: Permit<ModelCall>) {
    drop(recorder.intend(permit, Target::House).await);
    drop(recorder.intend(permit, Target::House).await);
}

fn main() {
    let _ = twice;
}
