// A secret cannot be printed.
fn main() {
    println!("{}", bartizan_secret::Secret::new(String::from("s3cr3t")));
}
