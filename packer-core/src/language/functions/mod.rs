//! The functions of the template language, by theme, and how any function is called.
//!
//! `can`, `try`, `convert` and `templatefile` are not here: they look at expressions rather than values, so
//! the evaluator has them.

mod calendar;
mod capabilities;
mod charset;
mod charset_codes;
mod charset_tables;
mod collections;
mod csv;
mod doubles;
mod encoding;
mod files;
mod format;
mod glob;
mod gzip;
mod hash;
mod network;
mod numbers;
mod re2;
mod services;
mod strings;
mod time;
mod types;
mod yaml;
mod yaml_decode;
mod yaml_encode;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

pub use capabilities::{Capabilities, FileKind, Files, NoFiles, RealFiles};
pub use files::read_text;
#[cfg(feature = "aws-ec2")]
pub(crate) use hash::decrypted_with_rsa;
pub use services::{NoServices, Services};

use super::syntax::is_identifier;
use crate::value::{Type, Value, convert};

/// The functions that get their arguments unevaluated: the evaluator has them.
pub(crate) const LAZY: [&str; 4] = ["can", "convert", "templatefile", "try"];

/// A parameter of a function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Param {
    /// Its name in messages.
    pub name: &'static str,
    /// What arguments are converted to; [`Type::Dynamic`] leaves them as they are.
    pub ty: Type,
    /// Whether null may be given.
    pub allow_null: bool,
    /// Which unknown arguments the body can deal with; for others the result is unknown and the body not called.
    pub unknown: Unknowns,
    /// Whether a bare `null` or an unknown of unknown type may be given.
    pub allow_dynamic: bool,
}

/// Which unknown arguments the body of a function can deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknowns {
    /// None: the argument is known through and through.
    None,
    /// Unknown elements of a known collection.
    Elements,
    /// Any.
    Any,
}

impl Param {
    /// A parameter that takes known values other than null.
    pub const fn new(name: &'static str, ty: Type) -> Self {
        Self { name, ty, allow_null: false, unknown: Unknowns::None, allow_dynamic: false }
    }

    /// Takes a string.
    pub const fn string(name: &'static str) -> Self {
        Self::new(name, Type::String)
    }

    /// Takes a number.
    pub const fn number(name: &'static str) -> Self {
        Self::new(name, Type::Number)
    }

    /// Takes a value of any type.
    pub const fn any(name: &'static str) -> Self {
        Self::new(name, Type::Dynamic)
    }

    /// Takes null as well.
    #[must_use]
    pub const fn nullable(mut self) -> Self {
        self.allow_null = true;
        self
    }

    /// Takes null, typed or not, as well.
    #[must_use]
    pub const fn dynamic(mut self) -> Self {
        self.allow_dynamic = true;
        self
    }

    /// Takes collections with unknown elements as well.
    #[must_use]
    pub const fn unknown_elements(mut self) -> Self {
        self.unknown = Unknowns::Elements;
        self
    }

    /// Takes unknown values as well.
    #[must_use]
    pub const fn unknown(mut self) -> Self {
        self.unknown = Unknowns::Any;
        self
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// Which argument is to blame, from 0.
    pub argument: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl FunctionError {
    /// An argument is to blame.
    pub fn argument(index: usize, message: impl Into<String>) -> Self {
        Self { argument: Some(index), message: message.into() }
    }

    /// The error without its words where those could quote something sensitive.
    fn discreet(self, sensitive: bool) -> Self {
        if !sensitive {
            return self;
        }
        Self { message: "what is wrong is not told because an argument is sensitive".into(), ..self }
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FunctionError {}

impl<S: Into<String>> From<S> for FunctionError {
    fn from(message: S) -> Self {
        Self { argument: None, message: message.into() }
    }
}

/// Why a call cannot be made at all: the count of arguments is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Too few arguments; the parameter that lacks one.
    NotEnough(&'static str),
    /// Too many arguments; how many there may be.
    TooMany(usize),
    /// The call was made and failed.
    Failed(FunctionError),
}

/// What a call returns.
pub type FunctionResult = Result<Value, FunctionError>;

type Body = dyn Fn(&[Value], &Capabilities) -> FunctionResult + Send + Sync;

type TypeOf = dyn Fn(&[Value]) -> Result<Type, FunctionError> + Send + Sync;

/// A function of the language. Cheap to clone.
///
/// ```
/// use packer_core::language::functions::{Capabilities, Function, Param};
/// use packer_core::value::{Type, Value};
/// let shout = Function::new([Param::string("text")], Type::String, |args, _| {
///     Ok(Value::from(format!("{}!", args[0].as_str().unwrap_or_default())))
/// });
/// let result = shout.call(vec![Value::from("hey")], &Capabilities::none());
/// assert_eq!(result.unwrap(), Value::from("hey!"));
/// ```
#[derive(Clone)]
pub struct Function {
    params: Arc<[Param]>,
    variadic: Option<Param>,
    returns: Type,
    type_of: Option<Arc<TypeOf>>,
    body: Arc<Body>,
}

impl Function {
    /// A function with these parameters. `returns` is the type of an unknown result; [`Type::Dynamic`] where it
    /// depends on the arguments, which [`typed_by`](Self::typed_by) may then say. The body gets as many arguments as there
    /// are parameters, converted and checked.
    pub fn new(
        params: impl IntoIterator<Item = Param>,
        returns: Type,
        body: impl Fn(&[Value], &Capabilities) -> FunctionResult + Send + Sync + 'static,
    ) -> Self {
        Self {
            params: params.into_iter().collect(),
            variadic: None,
            returns,
            type_of: None,
            body: Arc::new(body),
        }
    }

    /// Takes any number of further arguments.
    #[must_use]
    pub fn variadic(mut self, param: Param) -> Self {
        self.variadic = Some(param);
        self
    }

    /// Tells the type of a result that is not known yet. Some of the arguments are not known then; those of types that can
    /// never do are refused as the body refuses them.
    ///
    /// ```
    /// use packer_core::language::functions::{Capabilities, Function, FunctionError, Param};
    /// use packer_core::value::{Type, Value};
    /// let first = Function::new([Param::any("list")], Type::Dynamic, |args, _| {
    ///     args[0].as_slice().and_then(<[_]>::first).cloned().ok_or_else(|| "there is none".into())
    /// })
    /// .typed_by(|args| match args[0].ty() {
    ///     Type::List(element) => Ok((*element).clone()),
    ///     _ => Err(FunctionError::argument(0, "a list is needed")),
    /// });
    /// let call = |ty| first.call(vec![Value::unknown(ty)], &Capabilities::none());
    /// assert_eq!(call(Type::list(Type::Bool)), Ok(Value::unknown(Type::Bool)));
    /// assert!(call(Type::Number).is_err());
    /// ```
    #[must_use]
    pub fn typed_by(
        mut self,
        type_of: impl Fn(&[Value]) -> Result<Type, FunctionError> + Send + Sync + 'static,
    ) -> Self {
        self.type_of = Some(Arc::new(type_of));
        self
    }

    /// The parameters that each call must give.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The parameter that takes what is given beyond [`params`](Self::params).
    pub fn variadic_param(&self) -> Option<&Param> {
        self.variadic.as_ref()
    }

    /// The parameter that takes an argument.
    pub fn param(&self, argument: usize) -> Option<&Param> {
        self.params.get(argument).or(self.variadic.as_ref())
    }

    /// Calls the function: converts the arguments to the types of the parameters, deals with null and unknown
    /// ones as the parameters say, and marks the result sensitive where an argument holds anything sensitive.
    ///
    /// # Errors
    /// A wrong count of arguments, an argument that does not fit, or what the function itself finds.
    pub fn call(&self, mut args: Vec<Value>, capabilities: &Capabilities) -> Result<Value, CallError> {
        if let Some(missing) = self.params.get(args.len()) {
            return Err(CallError::NotEnough(missing.name));
        }
        if args.len() > self.params.len() && self.variadic.is_none() {
            return Err(CallError::TooMany(self.params.len()));
        }
        let sensitive = args.iter().any(Value::contains_sensitive);
        let size = args.iter().fold(0usize, |size, arg| size.saturating_add(arg.size()));
        if size > MOST_ARGUMENTS {
            let message = format!("the arguments have more than {} MiB together", MOST_ARGUMENTS >> 20);
            return Err(CallError::Failed(message.into()));
        }
        let fail = |i: usize, message: String| CallError::Failed(FunctionError::argument(i, message));
        for (i, arg) in args.iter_mut().enumerate() {
            let Some(param) = self.param(i).filter(|param| param.ty != Type::Dynamic) else { continue };
            *arg = convert(arg, &param.ty).map_err(|e| fail(i, e.about(arg)))?;
        }
        let discreet = |e: FunctionError| CallError::Failed(e.discreet(sensitive));
        let result =
            match self.knowledge(&args).map_err(|i| fail(i, "argument must not be null".to_owned()))? {
                Knowledge::Nothing => Value::unknown(Type::Dynamic),
                Knowledge::Types => Value::unknown(match &self.type_of {
                    Some(type_of) => type_of(&args).map_err(discreet)?,
                    None => self.returns.clone(),
                }),
                Knowledge::Enough => (self.body)(&args, capabilities).map_err(discreet)?,
            };
        Ok(result.sensitive_if(sensitive))
    }

    /// What is known of converted arguments.
    ///
    /// # Errors
    /// The first that is null and must not be. Behind one that may turn out to be anything none is looked at.
    fn knowledge(&self, args: &[Value]) -> Result<Knowledge, usize> {
        let mut knowledge = Knowledge::Enough;
        for (i, arg) in args.iter().enumerate() {
            let Some(param) = self.param(i) else { continue }; // the count was checked before
            if arg.is_null() && !param.allow_null {
                return Err(i);
            }
            if is_of_unknown_type(arg) && !param.allow_dynamic {
                return Ok(Knowledge::Nothing);
            }
            let enough = match param.unknown {
                Unknowns::None => arg.is_wholly_known(),
                Unknowns::Elements => arg.is_known(),
                Unknowns::Any => true,
            };
            if !enough {
                knowledge = Knowledge::Types;
            }
        }
        Ok(knowledge)
    }
}

/// What is known of the arguments of a call.
enum Knowledge {
    /// As much as the body can deal with.
    Enough,
    /// Their types.
    Types,
    /// Of one not even the type.
    Nothing,
}

/// How large the arguments of a call may be together.
const MOST_ARGUMENTS: usize = 2 * Value::MAX_SIZE;

/// An error for a text that would have more than so many bytes. Functions whose results grow faster than their arguments
/// ask before they make one.
fn fits(bytes: usize) -> Result<(), FunctionError> {
    if bytes > Value::MAX_SIZE {
        return Err(format!("the result would have more than {} MiB", Value::MAX_SIZE >> 20).into());
    }
    Ok(())
}

/// The same for a number of values.
fn fits_values(count: usize) -> Result<(), FunctionError> {
    if count > Value::MAX_NODES {
        return Err(format!("the result would have more than {} elements", Value::MAX_NODES).into());
    }
    Ok(())
}

/// Whether it is a bare `null` or an unknown value of which not even the type is known.
fn is_of_unknown_type(value: &Value) -> bool {
    use crate::value::Data;
    matches!(value.data(), Data::Null(Type::Dynamic) | Data::Unknown(Type::Dynamic))
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("params", &self.params)
            .field("variadic", &self.variadic)
            .field("returns", &self.returns)
            .finish_non_exhaustive()
    }
}

/// Why a function cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A function of this name is there already.
    #[error("there is a function named {0:?} already")]
    Taken(String),
    /// Templates cannot write it as a name.
    #[error("{0:?} cannot be the name of a function")]
    NoName(String),
}

/// The functions that expressions may call, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Functions(Arc<BTreeMap<String, Function>>);

impl Functions {
    /// No functions at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every function of Packer's that this build of the library has.
    pub fn standard() -> Self {
        static STANDARD: LazyLock<Functions> = LazyLock::new(|| {
            let mut table = BTreeMap::new();
            let mut add = |name: &str, function| {
                table.insert(name.to_owned(), function);
            };
            collections::add(&mut add);
            encoding::add(&mut add);
            files::add(&mut add);
            format::add(&mut add);
            hash::add(&mut add);
            network::add(&mut add);
            numbers::add(&mut add);
            services::add(&mut add);
            strings::add(&mut add);
            time::add(&mut add);
            Functions(Arc::new(table))
        });
        STANDARD.clone()
    }

    /// Adds a function of the host's, for templates in HCL to call by its name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use packer_core::Registry;
    /// use packer_core::language::functions::{Function, FunctionError, Functions, Param};
    /// use packer_core::template::{Inputs, Template};
    /// use packer_core::value::{Type, Value};
    ///
    /// let params = [Param::string("service"), Param::number("instance")];
    /// let port_of = Function::new(params, Type::Number, |args, _| match (args[0].as_str(), args[1].as_i64()) {
    ///     (Some("web"), Some(instance)) => Ok(Value::from(8080 + instance)),
    ///     (other, _) => Err(FunctionError::argument(0, format!("no service {other:?}"))),
    /// });
    /// let functions = Functions::standard().register("port_of", port_of.clone())?;
    /// let template = Template::from_texts([("t.pkr.hcl", "locals { url = \"http://web:${port_of(\"web\", 2)}\" }")])?;
    /// let console = template.console(&Registry::new(), Inputs::new().functions(functions)).await?;
    /// assert_eq!(console.answer("local.url")?, "http://web:8082");
    /// // The functions of the language keep their meaning.
    /// assert!(Functions::standard().register("upper", port_of).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where the name is that of a function that is there already or of one that the language itself has, and where it is
    /// no name at all.
    pub fn register(self, name: impl Into<String>, function: Function) -> Result<Self, RegisterError> {
        let name = name.into();
        if !is_identifier(&name) {
            return Err(RegisterError::NoName(name));
        }
        // `env` is one where defaults of variables are.
        let own = Self::standard().get(&name).is_some() || LAZY.contains(&&*name) || name == "env";
        if own || self.get(&name).is_some() {
            return Err(RegisterError::Taken(name));
        }
        Ok(self.with(name, function))
    }

    /// Adds a function, or replaces the one of this name: to put something else in the place of one of the language's.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, function: Function) -> Self {
        Arc::make_mut(&mut self.0).insert(name.into(), function);
        self
    }

    /// Takes a function away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.0).remove(name);
        self
    }

    /// The function of a name.
    pub fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }

    /// The names of all functions, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How each theme adds its functions.
type Add<'a> = &'a mut dyn FnMut(&str, Function);

/// The text of a string argument: conversion has made it one.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number argument as a whole number of 64 bits.
fn whole(args: &[Value], index: usize) -> Result<i64, FunctionError> {
    args.get(index).and_then(Value::as_i64).ok_or_else(|| {
        FunctionError::argument(
            index,
            format!("value must be a whole number, between {} and {} inclusive", i64::MIN, i64::MAX),
        )
    })
}

/// The type that all elements of a sequence share, where there is one.
fn element_type<'a>(values: impl IntoIterator<Item = &'a Value>) -> Option<Type> {
    let types: Vec<Type> = values.into_iter().map(Value::ty).collect();
    crate::value::unify(&types)
}
