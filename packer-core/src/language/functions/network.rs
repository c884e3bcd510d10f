//! Arithmetic on IP network prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use num_bigint::{BigInt, Sign};

use super::{Add, Function, FunctionError, FunctionResult, Param, text, whole};
use crate::value::{Type, Value};

pub(super) fn add(add: Add<'_>) {
    let prefix = || Param::string("prefix");
    add("cidrhost", Function::new([prefix(), Param::number("hostnum")], Type::String, |a, _| host(a)));
    add(
        "cidrnetmask",
        Function::new([prefix()], Type::String, |a, _| {
            let network = Network::parse(text(&a[0]))?;
            Ok(Value::from(network.with(u128::MAX, network.length).address()))
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

    /// The address as text; an IPv4 address within IPv6 shows as what it stands for.
    fn address(self) -> String {
        match self.ipv4() {
            Some(bits) => Ipv4Addr::from(bits).to_string(),
            None => Ipv6Addr::from(self.bits).to_string(),
        }
    }

    /// The bits of an IPv4 address, be it one within IPv6.
    fn ipv4(self) -> Option<u32> {
        match self.v6 {
            true => Ipv6Addr::from(self.bits).to_ipv4_mapped().map(u32::from),
            false => u32::try_from(self.bits).ok(),
        }
    }

    /// Whether it is of IPv4 addresses within IPv6.
    fn is_mapped(self) -> bool {
        self.v6 && self.ipv4().is_some()
    }

    /// The address with a number added so many bits from its end; `None` where that is no address any more.
    fn insert(self, number: &BigInt, shift: u32) -> Option<Self> {
        let inserted = BigInt::from(self.bits) | (number << shift);
        // Of a negative number, which only prefixes that are widened let through, the digits count.
        let bits = u128::try_from(inserted.magnitude().clone()).ok()?;
        (bits <= self.all()).then_some(Self { bits, ..self })
    }

    /// The highest address.
    fn last(self) -> u128 {
        self.bits | (self.all() & !u128::MAX.checked_shl(self.width() - self.length).unwrap_or(0))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = if self.is_mapped() { self.length.saturating_sub(96) } else { self.length };
        write!(f, "{}/{length}", self.address())
    }
}

fn host(args: &[Value]) -> FunctionResult {
    let number = BigInt::from(whole(args, 1)?);
    let network = Network::parse(text(&args[0]))?;
    let size = BigInt::from(1) << (network.width() - network.length);
    // A negative number counts from the end: -1 is the last address.
    let index = if number.sign() == Sign::Minus { &size + &number } else { number.clone() };
    let fits = index.sign() != Sign::Minus && index < size;
    // Packer counts from the wrong end of what it takes for IPv4.
    let address = network.insert(&index, if network.is_mapped() { 96 } else { 0 }).filter(|_| fits);
    match address {
        Some(address) => Ok(Value::from(address.address())),
        None => {
            Err(format!("prefix of {} does not accommodate a host numbered {number}", network.length).into())
        }
    }
}

fn subnet(args: &[Value]) -> FunctionResult {
    let (new_bits, number) = (whole(args, 1)?, whole(args, 2)?);
    let network = Network::parse(text(&args[0]))?;
    if new_bits > 32 {
        return Err("may not extend prefix by more than 32 bits".into());
    }
    let length = i64::from(network.length).saturating_add(new_bits);
    // What is wider than everything is not written as a network any more; no other number fits into it.
    if length < 0 && number == 0 {
        return Ok(Value::from("<nil>"));
    }
    let Some(length) = u32::try_from(length).ok().filter(|l| *l <= network.width()) else {
        return Err(format!(
            "insufficient address space to extend prefix of {} by {new_bits}",
            network.length
        )
        .into());
    };
    // Packer lets a negative count of bits widen the prefix, and then takes any number and keeps all bits.
    let within = new_bits < 0 || (0..1 << new_bits).contains(&number);
    match network.insert(&number.into(), network.width() - length).filter(|_| within) {
        Some(subnet) => Ok(Value::from(Network { length, ..subnet }.to_string())),
        None => {
            Err(format!("prefix extension of {new_bits} does not accommodate a subnet numbered {number}")
                .into())
        }
    }
}

fn subnets(args: &[Value]) -> FunctionResult {
    let network = Network::parse(text(&args[0]))?;
    let mut results = Vec::with_capacity(args.len());
    // The lowest address that is still free; `None` when the whole space is used up. Packer asks what lies before the
    // prefix, and where nothing does finds that it is at the end of the space.
    let mut free = Some(network.bits).filter(|bits| *bits > 0 && !network.is_mapped());
    let mut previous = None;
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
            let previous = previous.unwrap_or_else(|| network.with(u128::MAX, length));
            return fail(format!(
                "not enough remaining address space for a subnet with a prefix of {length} bits after {previous}"
            ));
        };
        free = subnet.last().checked_add(1);
        previous = Some(subnet);
        results.push(Value::from(subnet.to_string()));
    }
    Ok(Value::list(Type::String, results))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside what Packer's own functions give for the same.
    #[test]
    fn addresses_and_subnets() {
        let call = |body: fn(&[Value]) -> FunctionResult, prefix: &str, numbers: &[i64]| {
            let numbers = numbers.iter().map(|n| Value::from(*n));
            let args: Vec<Value> = std::iter::once(Value::from(prefix)).chain(numbers).collect();
            body(&args).map_or_else(
                |_| "refused".to_owned(),
                |v| match v.as_slice() {
                    Some(all) => all.iter().map(text).collect::<Vec<_>>().join(" "),
                    None => text(&v).to_owned(),
                },
            )
        };
        for (prefix, number, want) in [
            ("10.0.0.0/8", -16_777_216, "10.0.0.0"),
            ("10.0.0.0/8", -16_777_217, "refused"),
            ("::/0", -1, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::/64", i64::MIN, "::8000:0:0:0"),
            ("10.0.0.0/32", 1, "refused"),
            ("::ffff:10.0.0.0/104", 0, "10.0.0.0"),
        ] {
            assert_eq!(call(host, prefix, &[number]), want, "{prefix} {number}");
        }
        for (prefix, numbers, want) in [
            ("10.0.0.0/8", [8, 255], "10.255.0.0/16"),
            ("10.0.0.0/8", [8, 256], "refused"),
            ("10.0.0.0/8", [8, -1], "refused"),
            ("10.0.0.0/8", [-1, 3], "14.0.0.0/7"),
            ("11.0.0.0/8", [-1, 0], "11.0.0.0/7"),
            ("10.0.0.0/8", [-8, 300], "refused"),
            ("10.0.0.0/8", [-8, 0], "10.0.0.0/0"),
            ("10.0.0.0/8", [-9, 0], "<nil>"),
            ("10.0.0.0/8", [-9, 1], "refused"),
            ("::/0", [i64::MIN, 0], "<nil>"),
            ("::/0", [32, 4_294_967_295], "ffff:ffff::/32"),
            ("::ffff:10.0.0.0/104", [8, 1], "10.1.0.0/16"),
        ] {
            assert_eq!(call(subnet, prefix, &numbers), want, "{prefix} {numbers:?}");
        }
        for (prefix, numbers, want) in [
            ("128.0.0.0/1", &[8, 16, 2, 31][..], "128.0.0.0/9 128.128.0.0/17 160.0.0.0/3 192.0.0.0/32"),
            ("128.0.0.0/1", &[1, 1, 1], "refused"),
            ("0.0.0.0/1", &[16], "refused"),
            ("::/0", &[16, 16], "refused"),
            ("10.0.0.0/8", &[], ""),
        ] {
            assert_eq!(call(subnets, prefix, numbers), want, "{prefix} {numbers:?}");
        }
        let too_large = Value::number(
            num_bigint::BigInt::from(1u128 << 64).to_string().parse::<crate::value::Number>().unwrap(),
        );
        assert!(host(&[Value::from("::/0"), too_large]).is_err());
    }
}
