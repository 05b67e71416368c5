use bartizan_decide::PermitParts;
use bartizan_model::Target;
use bartizan_model::action::ModelCall;
use bartizan_record::{IntentRecorded, RecordError, Recorder};

async fn again(recorder: &Recorder, parts: PermitParts) -> Result<IntentRecorded<ModelCall>, RecordError> {
    recorder.intend_parts(parts, Target::House).await
}

fn main() {
    let _ = again;
}
