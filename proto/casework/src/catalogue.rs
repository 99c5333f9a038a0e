//! The catalogue: message kinds and their fields, read from the descriptors of the `.proto` files.

use std::sync::LazyLock;

use liaison_proto::wire::{DataClass, Kind};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value,
};

/// Texts without a limit of their own, grapheme clusters.
const DEFAULT_GRAPHEMES: u32 = 200;
/// Repeated fields without a limit of their own.
const DEFAULT_ITEMS: u32 = 50;
/// Field number of a kind in `Content`, less the kind's number.
const KIND_OFFSET: u32 = 100;

struct Descriptors {
    content: MessageDescriptor,
    rule: ExtensionDescriptor,
}

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/casework.descriptors.bin"));
    let descriptors = DescriptorPool::decode(bytes.as_slice()).ok().and_then(|pool| {
        Some(Descriptors {
            content: pool.get_message_by_name("liaison.casework.v1.Content")?,
            rule: pool.get_extension_by_name("liaison.casework.v1.rule")?,
        })
    });
    match descriptors {
        Some(descriptors) => descriptors,
        None => panic!("the catalogue's descriptors are built into this program and are incomplete"),
    }
});

/// The descriptor of `liaison.casework.v1.Content`.
#[must_use]
pub fn content() -> &'static MessageDescriptor {
    &DESCRIPTORS.content
}

/// A kind of message that this version's catalogue has.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogueKind {
    /// The kind.
    pub kind: Kind,
    /// Its field in `Content`.
    pub field: FieldDescriptor,
    /// Its message.
    pub message: MessageDescriptor,
}

/// Every kind this version can write, in the order of the `.proto` file.
#[must_use]
pub fn kinds() -> Vec<CatalogueKind> {
    let mut kinds = Vec::new();
    for field in content().fields() {
        let number = field.number().checked_sub(KIND_OFFSET).and_then(|n| i32::try_from(n).ok());
        if let (Some(number), Some(message)) = (number, field.kind().as_message().cloned())
            && let Ok(kind) = Kind::try_from(number)
            && field.containing_oneof().is_some()
        {
            kinds.push(CatalogueKind { kind, field, message });
        }
    }
    kinds
}

/// A kind of the catalogue.
#[must_use]
pub fn kind(wanted: Kind) -> Option<CatalogueKind> {
    kinds().into_iter().find(|entry| entry.kind == wanted)
}

/// The name of a wire code without the prefix of its enum: `KIND_CASE_NOTICE` -> `CASE_NOTICE`.
#[must_use]
pub fn short_name(prefix: &str, name: &'static str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The kind's name as officers write it.
#[must_use]
pub fn kind_name(kind: Kind) -> &'static str {
    short_name("KIND_", kind.as_str_name())
}

/// A kind by the name that officers write.
#[must_use]
pub fn kind_by_name(name: &str) -> Option<Kind> {
    Kind::from_str_name(&format!("KIND_{name}")).filter(|kind| *kind != Kind::Unspecified)
}

/// Whether a message of this kind is about a victim, whatever it holds.
#[must_use]
pub const fn is_about_a_victim(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::VictimSearch
            | Kind::ReturnRequest
            | Kind::ReturnUpdate
            | Kind::VerifyReply
            | Kind::HandoverProposal
            | Kind::HandoverAnswer
            | Kind::HandoverReceipt
            | Kind::ReintegFeedback
            | Kind::ConsentChange
    )
}

/// Whether a message of this kind makes sense only in the thread of another: `in_reply_to` must be there.
#[must_use]
pub const fn needs_thread(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::CaseNotice
            | Kind::InfoRequest
            | Kind::ActionRequest
            | Kind::SuspectAlert
            | Kind::VictimSearch
            | Kind::HotlineCall
            | Kind::ReturnRequest
            | Kind::BriefingPlan
            | Kind::StatReturn
            | Kind::Reconciliation
            | Kind::ContactUpdate
            | Kind::CallNote
            | Kind::Test
    )
}

/// What a field means beyond its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// Protection class.
    pub class: DataClass,
    /// Must be there.
    pub required: bool,
    /// Must be there when the other field has one of the codes.
    pub required_when: Option<(String, Vec<String>)>,
    /// Code list.
    pub code_list: Option<String>,
    /// Limit of a text, grapheme clusters.
    pub max_graphemes: usize,
    /// Limit of a repeated field.
    pub max_items: usize,
    /// Named form.
    pub form: Option<String>,
    /// Key of its label, where it is not its name.
    pub label: Option<String>,
    /// One line for templates and prompts.
    pub hint: Option<String>,
}

/// The rule of a field.
#[must_use]
pub fn rule(field: &FieldDescriptor) -> FieldRule {
    let options = field.options();
    let value = options.get_extension(&DESCRIPTORS.rule);
    let rule = value.as_message();
    let get = |name: &str| rule.and_then(|rule| rule.get_field_by_name(name)).map(std::borrow::Cow::into_owned);
    let text = |name: &str| match get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let number = |name: &str, default: u32| match get(name) {
        Some(Value::U32(n)) if n > 0 => n as usize,
        _ => default as usize,
    };
    let class = match get("class") {
        Some(Value::EnumNumber(n)) => DataClass::try_from(n).unwrap_or(DataClass::P3),
        // A field that nobody classified is treated as the most sensitive.
        _ => DataClass::P3,
    };
    let required_when = text("required_when").and_then(|condition| {
        let (field, codes) = condition.split_once('=')?;
        Some((field.to_owned(), codes.split('|').map(str::to_owned).collect()))
    });
    FieldRule {
        class,
        required: matches!(get("required"), Some(Value::Bool(true))),
        required_when,
        code_list: text("code_list"),
        max_graphemes: number("max_graphemes", DEFAULT_GRAPHEMES),
        max_items: number("max_items", DEFAULT_ITEMS),
        form: text("form"),
        label: text("label"),
        hint: text("hint"),
    }
}

/// The highest class of the fields that are set, at any depth: what the header must declare at least.
#[must_use]
pub fn highest_class(message: &DynamicMessage) -> DataClass {
    let set = message.descriptor().fields().filter(|field| message.has_field(field)).collect::<Vec<_>>();
    let inner = |value: &Value| value.as_message().map(highest_class);
    let of_field = |field: &FieldDescriptor| {
        let value = message.get_field(field);
        let items = value.as_list().map(<[Value]>::to_vec).unwrap_or_else(|| vec![value.clone().into_owned()]);
        let deepest = items.iter().filter_map(inner).max_by_key(|class| *class as i32);
        let own = rule(field).class;
        deepest.filter(|class| *class as i32 > own as i32).unwrap_or(own)
    };
    set.iter().map(of_field).max_by_key(|class| *class as i32).unwrap_or(DataClass::P0)
}
