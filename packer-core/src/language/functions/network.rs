//! Arithmetic on IP network prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use num_bigint::BigInt;

use super::{Add, Function, FunctionError, FunctionResult, Param, text, whole};
use crate::value::{Type, Value};

pub(super) fn add(add: Add<'_>) {
    let prefix = || Param::string("prefix");
    add("cidrhost", Function::new([prefix(), Param::number("hostnum")], Type::String, |a, _| host(a)));
    add(
        "cidrnetmask",
        Function::new([prefix()], Type::String, |a, _| {
            let network = Network::parse(text(&a[0]))?;
            Ok(Value::from(network.with(u128::MAX, network.length).address().to_string()))
        }),
    );
    add(
        "cidrsubnet",
        Function::new([prefix(), Param::number("newbits"), Param::number("netnum")], Type::String, |a, _| {
            subnet(a)
        }),
    );
    add(
        "cidrsubnets",
        Function::new([prefix()], Type::list(Type::String), |a, _| subnets(a))
            .variadic(Param::number("newbits")),
    );
}

/// An IP network; the bits behind the prefix are zero.
#[derive(Clone, Copy)]
struct Network {
    /// The address, its last bit being the lowest.
    bits: u128,
    length: u32,
    v6: bool,
}

impl Network {
    fn parse(text: &str) -> Result<Self, FunctionError> {
        Self::read(text)
            .ok_or_else(|| format!("invalid CIDR expression: invalid CIDR address: {text}").into())
    }

    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (bits, v6) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(a) => (u32::from(a).into(), false),
            IpAddr::V6(a) => (a.into(), true),
        };
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse::<u32>().ok().filter(|_| digits)?;
        let network = Self { bits, length, v6 };
        (length <= network.width()).then(|| network.with(bits, length))
    }

    fn width(self) -> u32 {
        if self.v6 { 128 } else { 32 }
    }

    /// The network of the same family with these bits as far as the prefix goes.
    fn with(self, bits: u128, length: u32) -> Self {
        let host = self.width() - length;
        // A shift by the whole width is not defined.
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        Self { bits: bits & mask & self.all(), length, v6: self.v6 }
    }

    /// Every bit of an address.
    fn all(self) -> u128 {
        u128::MAX >> (128 - self.width())
    }

    fn address(self) -> IpAddr {
        match u32::try_from(self.bits) {
            Ok(bits) if !self.v6 => Ipv4Addr::from(bits).into(),
            _ => Ipv6Addr::from(self.bits).into(),
        }
    }

    /// The highest address.
    fn last(self) -> u128 {
        self.bits | (self.all() & !u128::MAX.checked_shl(self.width() - self.length).unwrap_or(0))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address(), self.length)
    }
}

fn host(args: &[Value]) -> FunctionResult {
    let network = Network::parse(text(&args[0]))?;
    let number = args[1].as_number().and_then(crate::value::Number::to_bigint);
    let number = number.ok_or("value must be a whole number")?;
    let size = BigInt::from(1) << (network.width() - network.length);
    // A negative number counts from the end: -1 is the last address.
    let index = if number < BigInt::ZERO { &size + &number } else { number.clone() };
    if index < BigInt::ZERO || index >= size {
        return Err(
            format!("prefix of {} does not accommodate a host numbered {number}", network.length).into()
        );
    }
    // Fits: it is smaller than the number of addresses.
    let index = u128::try_from(index).unwrap_or(u128::MAX);
    Ok(Value::from(Network { bits: network.bits | index, ..network }.address().to_string()))
}

fn subnet(args: &[Value]) -> FunctionResult {
    let network = Network::parse(text(&args[0]))?;
    let (new_bits, number) = (whole(args, 1)?, whole(args, 2)?);
    if new_bits > 32 {
        return Err("may not extend prefix by more than 32 bits".into());
    }
    if number < 0 {
        return Err("subnet number must not be negative".into());
    }
    let length = i64::from(network.length).saturating_add(new_bits);
    let Some(length) = u32::try_from(length).ok().filter(|l| *l <= network.width()) else {
        return Err(format!(
            "insufficient address space to extend prefix of {} by {new_bits}",
            network.length
        )
        .into());
    };
    // Packer lets a negative count of bits widen the prefix, and then takes any number.
    let number = u128::from(number.unsigned_abs());
    if new_bits >= 0 && number >= 1 << new_bits {
        return Err(format!(
            "prefix extension of {new_bits} does not accommodate a subnet numbered {number}"
        )
        .into());
    }
    let shifted = number.checked_shl(network.width() - length).unwrap_or(0);
    Ok(Value::from(network.with(network.bits | shifted, length).to_string()))
}

fn subnets(args: &[Value]) -> FunctionResult {
    let network = Network::parse(text(&args[0]))?;
    let mut results = Vec::with_capacity(args.len());
    // The lowest address that is still free; `None` when the whole space is used up.
    let mut free = Some(network.bits);
    let mut previous = network;
    for i in 1..args.len() {
        let new_bits = whole(args, i)?;
        let fail = |message: String| Err(FunctionError::argument(i, message));
        if new_bits < 1 {
            return fail("must extend prefix by at least one bit".to_owned());
        }
        if new_bits > 32 {
            return fail("may not extend prefix by more than 32 bits".to_owned());
        }
        let length = network.length + new_bits as u32;
        if length > network.width() {
            return fail(format!(
                "would extend prefix to {length} bits, which is too long for an {} address",
                if network.v6 { "IPv6" } else { "IPv4" }
            ));
        }
        // Start at the next multiple of the subnet's size.
        let host = network.width() - length;
        let low = 1u128.checked_shl(host).map_or(u128::MAX, |size| size - 1);
        let start = free.and_then(|free| free.checked_add(low)).map(|bits| bits & !low);
        let subnet = start.filter(|start| *start <= network.last()).map(|start| network.with(start, length));
        let Some(subnet) = subnet else {
            return fail(format!(
                "not enough remaining address space for a subnet with a prefix of {length} bits after {previous}"
            ));
        };
        free = subnet.last().checked_add(1);
        previous = subnet;
        results.push(Value::from(subnet.to_string()));
    }
    Ok(Value::list(Type::String, results))
}
