//! One test for each broken manifest: what is changed in a good one, and the whole message.

/// `name: source, "from" => "to", "message";`, where `from` is in the source once.
#[allow(unused_macros, reason = "each test binary takes what it needs")]
macro_rules! broken {
    ($check:expr; $($name:ident: $source:expr, $from:expr => $to:expr, $message:expr;)+) => {
        $(
            #[test]
            fn $name() {
                let check: fn(&str) -> Result<(), String> = $check;
                check($source).expect("the source is right before the change");
                assert_eq!(check(&support::edit($source, $from, $to)).expect_err("accepted").as_str(), $message);
            }
        )+
    };
}
