//! The host's own data of the crate `hcl-rs`: values for variables, bodies as files of a template.

use std::sync::Arc;

use hcl::expr::ObjectKey;
use hcl::{Body, Expression, Structure};

use super::export::literal;
use super::inputs::Inputs;
use super::{Parsed, Template};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::value::{Number, Type, Value, normalize};

/// Objects and tuples, as a template would write them.
impl From<&hcl::Value> for Value {
    fn from(value: &hcl::Value) -> Self {
        match value {
            hcl::Value::Null => Self::null(Type::Dynamic),
            hcl::Value::Bool(on) => Self::bool(*on),
            hcl::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(n), ..) => Self::number(n),
                (_, Some(n), _) => Self::number(n),
                (.., float) => {
                    float.and_then(Number::from_f64).map_or(Self::null(Type::Number), Self::number)
                }
            },
            hcl::Value::String(text) => Self::text(text),
            hcl::Value::Array(items) => Self::tuple(items.iter().map(Self::from)),
            hcl::Value::Object(fields) => {
                Self::object(fields.iter().map(|(name, value)| (normalize(name), Self::from(value))))
            }
        }
    }
}

impl From<hcl::Value> for Value {
    fn from(value: hcl::Value) -> Self {
        Self::from(&value)
    }
}

impl Template {
    /// Reads the files of a template in HCL as [`load_for`](Self::load_for) does, with blocks of the host's own beside them, each
    /// body under a name that messages show for it.
    ///
    /// # Errors
    /// As [`load_for`](Self::load_for). Places in a body are those of its text, as `hcl-rs` writes it.
    pub fn load_with<N: Into<String>>(
        path: &str,
        bodies: impl IntoIterator<Item = (N, Body)>,
        inputs: &Inputs,
    ) -> Result<Self, Diagnostics> {
        let template = Self::read_with(inputs.dir(), path, sources(bodies)?)?;
        template.check(inputs).into_result(template)
    }

    /// Makes a template of blocks of the host's own, each body under a name that messages show for it; `path.root` is the
    /// working folder.
    ///
    /// ```
    /// # fn main() -> Result<(), packer_core::Diagnostics> {
    /// use packer_core::template::Template;
    /// let body = hcl::body!({ variable "region" { default = "north" } });
    /// let template = Template::from_bodies([("host", body)])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bodies<N: Into<String>>(
        bodies: impl IntoIterator<Item = (N, Body)>,
    ) -> Result<Self, Diagnostics> {
        let parsed = Parsed { root: ".".into(), ..Parsed::default() };
        Self::parse(sources(bodies)?, parsed, Diagnostics::new())
    }
}

fn sources<N: Into<String>>(
    bodies: impl IntoIterator<Item = (N, Body)>,
) -> Result<Vec<Arc<SourceFile>>, Diagnostics> {
    let source = |(name, body): (N, Body)| match hcl::format::to_string(&exact_body(&body)) {
        Ok(text) => Ok(SourceFile::new(name, text)),
        Err(e) => Err(Diagnostic::error(e.to_string()).into()),
    };
    bodies.into_iter().map(source).collect()
}

/// The body with its texts escaped by us: `hcl-rs` 0.20 leaves a `$${` behind a `${` as it is, which reads back as
/// another text.
fn exact_body(body: &Body) -> Body {
    body.iter()
        .map(|structure| match structure {
            Structure::Attribute(given) => {
                let mut given = given.clone();
                given.expr = exact(&given.expr);
                Structure::Attribute(given)
            }
            Structure::Block(given) => {
                let mut given = given.clone();
                given.body = exact_body(&given.body);
                Structure::Block(given)
            }
        })
        .collect()
}

fn exact(expression: &Expression) -> Expression {
    match expression {
        Expression::String(text) => literal(text),
        Expression::Array(items) => Expression::Array(items.iter().map(exact).collect()),
        Expression::Object(entries) => Expression::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    let key = match key {
                        ObjectKey::Expression(Expression::String(text)) => {
                            ObjectKey::Expression(literal(text))
                        }
                        key => key.clone(),
                    };
                    (key, exact(value))
                })
                .collect(),
        ),
        Expression::Parenthesis(inner) => Expression::Parenthesis(Box::new(exact(inner))),
        Expression::FuncCall(call) => {
            let mut call = call.clone();
            call.args = call.args.iter().map(exact).collect();
            Expression::FuncCall(call)
        }
        other => other.clone(),
    }
}
