//! Programs as values, and how to make random ones.
//!
//! Operands are numbers ([`Pick`]) that choose among what there is at that moment (spans with a
//! handle, entered spans, contexts); an instruction without an operand to choose does nothing. So
//! every list of instructions is a program, which lets a failing one shrink.

use std::error::Error;
use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tracing::Value;

/// Chooses one of what there is, modulo its number.
pub(crate) type Pick = u8;

/// All texts that occur as values.
pub(crate) const TEXTS: &[&str] = &["plain", "", "with \"quotes\"", "two\nlines", "é"];
/// Fields of the one kind of span that programs open.
pub(crate) const FIELDS: &[&str] = &["a", "b", "late", "failure"];
/// Threads besides the main one.
pub(crate) const WORKERS: usize = 2;

/// Runs of instructions, each on one thread; 0 is the main one.
pub(crate) type Program = Vec<(usize, Vec<Op>)>;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Open(Hang, Level, Fields),
    Enter(Pick),
    Exit(Pick),
    CloneHandle(Pick),
    DropHandle(Pick),
    Record(Pick, &'static str, Datum),
    RecordSpecial(Pick, &'static str, &'static str),
    Event(Hang, Level, EventFields),
    FollowsFrom(Pick, Pick),
    /// `follows_from` of a span that may be closed.
    FollowsFormer(Pick, Pick),
    SetAttribute(Pick, &'static str, i64),
    SetStatus(Pick, Choice),
    AddLink(Pick, Pick),
    SetParent(Pick, Pick),
    RecordError(Pick, Failure),
    /// Keeps `Context::current()`.
    KeepCurrent,
    /// Keeps the context of a span.
    KeepContext(Pick),
    KeepRemote(Remote),
    Attach(Pick),
    Detach(Pick),
    /// A span of the OpenTelemetry API under the current context; attached, if so wished.
    Api(bool),
    ApiEnd(Pick),
    /// A call on the span of the current context.
    Call(Call),
    /// A future that is instrumented with a span.
    Task(Pick),
    Poll(Pick, Vec<Op>),
    DropTask(Pick),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Hang {
    Contextual,
    Root,
    Under(Pick),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    Error,
    Warn,
    Debug,
}

#[derive(Clone, Default)]
pub(crate) struct Fields {
    pub(crate) a: Option<Datum>,
    pub(crate) b: Option<Datum>,
    pub(crate) password: Option<&'static str>,
    pub(crate) failure: Option<Failure>,
    pub(crate) name: Option<&'static str>,
    pub(crate) kind: Option<&'static str>,
    pub(crate) status_code: Option<&'static str>,
    pub(crate) status_description: Option<&'static str>,
}

#[derive(Clone, Default)]
pub(crate) struct EventFields {
    pub(crate) message: Option<Datum>,
    pub(crate) error: Option<Datum>,
    pub(crate) a: Option<Datum>,
    pub(crate) b: Option<Datum>,
}

/// Shows only what is set.
macro_rules! debug_set {
    ($type:ident: $($field:ident),*) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut shown = f.debug_struct("");
                $(if let Some(value) = &self.$field {
                    shown.field(stringify!($field), value);
                })*
                shown.finish()
            }
        }
    };
}

debug_set!(Fields: a, b, password, failure, name, kind, status_code, status_description);
debug_set!(EventFields: message, error, a, b);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    Unset,
    Ok,
    Error(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) trace: u8,
    pub(crate) sampled: bool,
    pub(crate) state: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    SetAttribute(&'static str, i64),
    AddEvent(&'static str),
    SetStatus(Choice),
    UpdateName(&'static str),
}

/// The value of a field.
#[derive(Clone, Debug)]
pub(crate) enum Datum {
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Str(&'static str),
    Display(&'static str),
    Debug(&'static str),
    List(Vec<u8>),
    Failure(Failure),
}

impl Datum {
    pub(crate) fn value(&self) -> Box<dyn Value + '_> {
        match self {
            Self::Bool(value) => Box::new(*value),
            Self::I64(value) => Box::new(*value),
            Self::U64(value) => Box::new(*value),
            Self::I128(value) => Box::new(*value),
            Self::U128(value) => Box::new(*value),
            Self::F64(value) => Box::new(*value),
            Self::Str(value) => Box::new(*value),
            Self::Display(value) => Box::new(tracing::field::display(value)),
            Self::Debug(value) => Box::new(tracing::field::debug(value)),
            Self::List(value) => Box::new(tracing::field::debug(value)),
            Self::Failure(value) => value.value(),
        }
    }

    /// How the value reads where it is taken for an error's text; `None` where it is not.
    pub(crate) fn as_error_text(&self) -> Option<String> {
        match self {
            Self::Str(text) | Self::Display(text) => Some((*text).to_owned()),
            Self::Debug(text) => Some(format!("{text:?}")),
            Self::List(list) => Some(format!("{list:?}")),
            Self::I128(number) => Some(number.to_string()),
            Self::U128(number) => Some(number.to_string()),
            Self::Bool(_) | Self::I64(_) | Self::U64(_) | Self::F64(_) | Self::Failure(_) => None,
        }
    }
}

/// An error with sources.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    text: &'static str,
    source: Option<Box<Failure>>,
}

impl Failure {
    pub(crate) fn new(chain: &[&'static str]) -> Self {
        let (text, rest) = chain.split_first().unwrap_or((&"nothing", &[]));
        let source = (!rest.is_empty()).then(|| Box::new(Self::new(rest)));
        Self { text, source }
    }

    pub(crate) fn value(&self) -> Box<dyn Value + '_> {
        Box::new(self as &(dyn Error + 'static))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

fn text() -> impl Strategy<Value = &'static str> {
    select(TEXTS)
}

fn failure() -> impl Strategy<Value = Failure> {
    vec(text(), 1..4).prop_map(|chain| Failure::new(&chain))
}

/// A value that may stand for a message or an error. A `u64` may not: without a method for it,
/// the peer takes it for formatted text.
fn told() -> impl Strategy<Value = Datum> {
    prop_oneof![
        1 => any::<bool>().prop_map(Datum::Bool),
        1 => any::<i64>().prop_map(Datum::I64),
        1 => (i128::MIN..i128::from(i64::MIN)).prop_map(Datum::I128),
        1 => (1u128 << 64..).prop_map(Datum::U128),
        1 => any::<f64>().prop_map(Datum::F64),
        4 => text().prop_map(Datum::Str),
        2 => text().prop_map(Datum::Display),
        2 => text().prop_map(Datum::Debug),
        1 => vec(any::<u8>(), 0..3).prop_map(Datum::List),
        2 => failure().prop_map(Datum::Failure),
    ]
}

fn datum() -> BoxedStrategy<Datum> {
    prop_oneof![6 => told(), 1 => any::<u64>().prop_map(Datum::U64)].boxed()
}

fn rarely<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    option::weighted(0.2, strategy)
}

fn special_name() -> impl Strategy<Value = &'static str> {
    select(&["renamed", "renamed again"][..])
}

fn special_kind() -> impl Strategy<Value = &'static str> {
    select(&["server", "CLIENT", "Producer", "consumer", "internal", "nonsense"][..])
}

fn status_code() -> impl Strategy<Value = &'static str> {
    select(&["ok", "OK", "error", "ERROR", "nonsense"][..])
}

fn special() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        special_name().prop_map(|value| ("otel.name", value)),
        special_kind().prop_map(|value| ("otel.kind", value)),
        status_code().prop_map(|value| ("otel.status_code", value)),
        text().prop_map(|value| ("otel.status_description", value)),
    ]
}

fn fields() -> BoxedStrategy<Fields> {
    let plain = (rarely(datum()), rarely(datum()), rarely(text()), rarely(failure()));
    let special =
        (rarely(special_name()), rarely(special_kind()), rarely(status_code()), rarely(text()));
    (plain, special)
        .prop_map(|((a, b, password, failure), special)| {
            let (name, kind, status_code, status_description) = special;
            Fields { a, b, password, failure, name, kind, status_code, status_description }
        })
        .boxed()
}

fn event_fields() -> BoxedStrategy<EventFields> {
    (option::of(told()), rarely(told()), rarely(datum()), rarely(datum()))
        .prop_map(|(message, error, a, b)| EventFields { message, error, a, b })
        .boxed()
}

fn hang() -> impl Strategy<Value = Hang> {
    prop_oneof![
        4 => Just(Hang::Contextual),
        1 => Just(Hang::Root),
        2 => any::<Pick>().prop_map(Hang::Under),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    select(&[Level::Error, Level::Warn, Level::Debug][..])
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![Just(Choice::Unset), Just(Choice::Ok), text().prop_map(Choice::Error)]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        (select(FIELDS), any::<i64>()).prop_map(|(key, value)| Call::SetAttribute(key, value)),
        text().prop_map(Call::AddEvent),
        choice().prop_map(Call::SetStatus),
        special_name().prop_map(Call::UpdateName),
    ]
}

fn remote() -> impl Strategy<Value = Remote> {
    (1..4u8, proptest::bool::weighted(0.8), any::<bool>())
        .prop_map(|(trace, sampled, state)| Remote { trace, sampled, state })
}

/// Any instruction but `Poll`.
///
/// Boxed at several places: the values of strategies are large, and so are those of their unions.
fn simple() -> BoxedStrategy<Op> {
    let pick = any::<Pick>;
    let two = || (pick(), pick());
    let spans = prop_oneof![
        6 => (hang(), level(), fields()).prop_map(|(hang, level, set)| Op::Open(hang, level, set)),
        6 => pick().prop_map(Op::Enter),
        4 => pick().prop_map(Op::Exit),
        1 => pick().prop_map(Op::CloneHandle),
        4 => pick().prop_map(Op::DropHandle),
    ];
    let content = prop_oneof![
        2 => (pick(), select(FIELDS), datum()).prop_map(|(on, key, set)| Op::Record(on, key, set)),
        1 => (pick(), special()).prop_map(|(on, (key, set))| Op::RecordSpecial(on, key, set)),
        4 => (hang(), level(), event_fields())
            .prop_map(|(hang, level, set)| Op::Event(hang, level, set)),
        1 => two().prop_map(|(from, to)| Op::FollowsFrom(from, to)),
        1 => two().prop_map(|(from, to)| Op::FollowsFormer(from, to)),
    ];
    let extension = prop_oneof![
        (pick(), select(FIELDS), any::<i64>())
            .prop_map(|(on, key, set)| Op::SetAttribute(on, key, set)),
        (pick(), choice()).prop_map(|(on, choice)| Op::SetStatus(on, choice)),
        two().prop_map(|(on, to)| Op::AddLink(on, to)),
        two().prop_map(|(on, to)| Op::SetParent(on, to)),
        (pick(), failure()).prop_map(|(on, failure)| Op::RecordError(on, failure)),
        pick().prop_map(Op::KeepContext),
    ];
    let contexts = prop_oneof![
        2 => Just(Op::KeepCurrent),
        1 => remote().prop_map(Op::KeepRemote),
        3 => pick().prop_map(Op::Attach),
        2 => pick().prop_map(Op::Detach),
        2 => any::<bool>().prop_map(Op::Api),
        1 => pick().prop_map(Op::ApiEnd),
        1 => call().prop_map(Op::Call),
    ];
    let tasks = prop_oneof![2 => pick().prop_map(Op::Task), 1 => pick().prop_map(Op::DropTask)];
    prop_oneof![8 => spans.boxed(),
        4 => content.boxed(),
        2 => extension.boxed(),
        4 => contexts.boxed(),
        1 => tasks.boxed(),
    ]
    .boxed()
}

fn op() -> BoxedStrategy<Op> {
    let poll = (any::<Pick>(), vec(simple(), 0..4)).prop_map(|(task, ops)| Op::Poll(task, ops));
    prop_oneof![12 => simple(), 1 => poll].boxed()
}

/// A line for each instruction.
pub(crate) fn show(program: &Program) -> String {
    let mut text = String::new();
    for (thread, ops) in program {
        for op in ops {
            text.push_str(&format!("  thread {thread}: {op:?}\n"));
        }
    }
    text
}

/// Half of the programs stay on one thread.
pub(crate) fn program() -> impl Strategy<Value = Program> {
    let one = vec(op(), 1..30).prop_map(|ops| vec![(0, ops)]);
    let many = vec((0..=WORKERS, vec(op(), 1..6)), 1..7);
    prop_oneof![one, many]
}
