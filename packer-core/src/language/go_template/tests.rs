//! Tests of the language; what is expected is what Go's own implementation answers.

use super::*;

/// Functions of all kinds of signatures.
struct Functions;

impl FunctionTable for Functions {
    fn signature(&self, name: &str) -> Option<Signature> {
        let (fixed, variadic): (&[Kind], _) = match name {
            "upper" | "fail" => (&[Kind::String], None),
            "split" => (&[Kind::String, Kind::String, Kind::Int], None),
            "opt" => (&[], Some(Kind::String)),
            _ => return None,
        };
        Some(Signature { fixed, variadic })
    }

    fn call(&self, name: &str, arguments: &[Data]) -> Result<Data, String> {
        let texts: Vec<&str> = arguments.iter().filter_map(Data::as_str).collect();
        match (name, texts.as_slice(), arguments.last()) {
            ("upper", [text], _) => Ok(text.to_uppercase().into()),
            ("split", [text, separator], Some(Data::Int(n))) => {
                text.split(separator).nth(*n as usize).map(Data::from).ok_or("oob".into())
            }
            ("opt", texts, _) => Ok(texts.join("+").into()),
            _ => Err(format!("bad {}", texts.concat())),
        }
    }
}

fn data() -> Data {
    Data::from(&serde_json::json!({
        "s": "text", "n": 42, "f": 1.5, "b": true, "l": [1, "two", 3.5, null], "m": {"x": "X", "y": 2}, "e": "",
        "é": "accent",
    }))
}

#[test]
fn gives_what_go_gives() {
    for (text, expected) in [
        ("plain text", "plain text"),
        (
            "{{.s}} {{.n}} {{.f}} {{.b}} {{.l}} {{.m}} {{.none}}",
            "text 42 1.5 true [1 two 3.5 <nil>] map[x:X y:2] <no value>",
        ),
        ("{{.m.x}} {{.m.z}} {{.none.a.b}}", "X <no value> <no value>"),
        (r#"{{upper .s}} {{.s | upper}} {{upper (upper "a")}}"#, "TEXT TEXT A"),
        (r#"{{opt}} {{opt "a"}} {{opt "a" "b"}}"#, " a a+b"),
        (
            r#"{{printf "%f|%5.2f|%e|%g|%.3g|%8.1f|%-8.1f|%v" 3.14159 3.14159 1234.5 1e21 0.00001234 2.25 2.25 1.0}}"#,
            "3.141590| 3.14|1.234500e+03|1e+21|1.23e-05|     2.2|2.2     |1",
        ),
        (
            r#"{{printf "%v %v %v %v %v" 1e20 1e21 123456789.0 1e-5 0.0001}}"#,
            "1e+20 1e+21 1.23456789e+08 1e-05 0.0001",
        ),
        (r#"{{printf "%g %g %G %E" 1000000.0 1e20 1e-7 12345.678}}"#, "1e+06 1e+20 1E-07 1.234568E+04"),
        (r#"{{printf "%#v %#v %#v %#v %#v %#v" 1 1.0 1e6 1e21 "a" true}}"#, r#"1 1 1e+06 1e+21 "a" true"#),
        (
            r#"{{printf "%#v %#v" .l .m}}"#,
            r#"[]interface {}{1, "two", 3.5, interface {}(nil)} map[string]interface {}{"x":"X", "y":2}"#,
        ),
        (
            "{{printf \"%q %+q %#q %x\" \"a\\\"é\\n\" \"é\u{263a}\" \"raw\" \"é\"}}",
            r#""a\"é\n" "\u00e9\u263a" `raw` c3a9"#,
        ),
        (
            r#"{{printf "%6.2s|%-6s|%06s|%06d|%-06d" "abc" "x" "y" -3 4}}"#,
            "    ab|x     |00000y|-00003|4     ",
        ),
        (r#"{{printf "%d %s %t %v" "x" 5 1 nil}}"#, "%!d(string=x) %!s(int=5) %!t(int=1) <nil>"),
        (r#"{{printf "%s %s" "a"}}"#, "a %!s(MISSING)"),
        (r#"{{printf "a" "b" 1}}"#, "a%!(EXTRA string=b, int=1)"),
        (r#"{{printf "%z %!" 1}}"#, "%!z(int=1) %!!(MISSING)"),
        (r#"{{printf "%"}}"#, "%!(NOVERB)"),
        (
            r#"{{printf "%[2]d %[1]d" 1 2}} {{printf "%[3]d" 1}} {{printf "%[x]d" 1}} {{printf "%[2]*[1]d" 1 5}}"#,
            "2 1 %!d(BADINDEX) %!d(BADINDEX)     1",
        ),
        (
            r#"{{printf "%*d|%-*d|%.*f" 5 1 5 2 2 3.14159}} {{printf "%*d" "a" 1}}"#,
            "    1|2    |3.14 %!(BADWIDTH)1",
        ),
        (
            r#"{{printf "%v %d %s %q %x" .l .l .l .l .l}}"#,
            r#"[1 two 3.5 <nil>] [1 %!d(string=two) %!d(float64=3.5) <nil>] [%!s(int=1) two %!s(float64=3.5) <nil>] ['\x01' "two" %!q(float64=3.5) <nil>] [1 74776f 0x1.cp+01 <nil>]"#,
        ),
        (
            r#"{{printf "%v %s %d" .m .m .m}}"#,
            "map[x:X y:2] map[x:X y:%!s(int=2)] map[%!d(string=x):%!d(string=X) %!d(string=y):2]",
        ),
        (
            r#"{{printf "%T %T %T %T %T %T %T" 1 1.0 "a" true nil .l .m}}"#,
            "int float64 string bool <nil> []interface {} map[string]interface {}",
        ),
        (r#"{{printf "%t %5t %v" true false .b}}"#, "true false true"),
        (
            r#"{{printf "%#x %#x %#X %#U %#q %#o" 1.5 0.0 1.0 1.5 1e100 1.0}}"#,
            "0x1.8000p+00 0x0.0000p+00 0X1.P+00 %!U(float64=1.50000) %!q(float64=1.00000e+100) %!o(float64=1.00000)",
        ),
        (
            r#"{{printf "%#.2x %#.0x %#X %#x" 1.5 1.5 1.5 1e300}}"#,
            "0x1.80p+00 0x1.p+01 0X1.8P+00 0x1.7e43c8800759cp+996",
        ),
        (r#"{{printf "%w %w" 1 .l}}"#, "%!w(int=1) %!w([]interface {}=[1 two 3.5 <nil>])"),
        (
            r#"{{printf "%08.3f|%+08.3f|% 8.3f|%-8.3f|" 3.14159 3.14159 3.14159 3.14159}}"#,
            "0003.142|+003.142|   3.142|3.142   |",
        ),
        (
            r#"{{printf "%.0f %.0e %#.0f %#g %#g" 2.5 12345.0 2.0 1.0 1e10}}"#,
            "2 1e+04 2. 1.00000 1.00000e+10",
        ),
        (r#"{{printf "%.3d|%8.3d|%08.3d|%+.3d|%.0d|" 5 5 5 5 0}}"#, "005|     005|     005|+005||"),
        (
            r#"{{printf "%c %c %U %#U %q" 128512 -1 128512 128512 10}}"#,
            "\u{1f600} \u{fffd} U+1F600 U+1F600 '\u{1f600}' '\\n'",
        ),
        (r#"{{printf "%O %#o %#b %#X" 8 8 5 255}}"#, "0o10 010 0b101 0XFF"),
        (r#"{{printf "%x %X %x" -255 "hi" 3.5}}"#, "-ff 6869 0x1.cp+01"),
        (r#"{{printf "%5v|%-5v|%05v" 1 "a" 2}}"#, "    1|a    |00002"),
        (r#"{{printf "%5q|%.1q" "a" "abc"}}"#, r#"  "a"|"a""#),
        (r#"{{print 1 2 "a" 3 "b" "c" nil 4}} {{println 1 "a"}}x"#, "1 2a3bc<nil> 4 1 a\nx"),
        ("{{print}}|{{println}}|{{print .l .m}}", "|\n|[1 two 3.5 <nil>] map[x:X y:2]"),
        (
            r#"{{html "<a>&'\"" 1}} {{js "it's <b> = \u2028 é\x01"}} {{urlquery "a b&é" 2}} {{html .none}}{{js nil}}"#,
            r#"&lt;a&gt;&amp;&#39;&#34;1 it\'s \u003Cb\u003E \u003D \u2028 é\u0001 a+b%26%C3%A92 &lt;no value&gt;\u003Cno value\u003E"#,
        ),
        (r#"{{len .s}} {{len .l}} {{len .m}} {{len "é"}}"#, "4 4 2 2"),
        (
            r#"{{index .l 1}} {{index .m "x"}} {{index .m "q"}} {{index .s 0}} {{index .s}} {{index .l 3}}"#,
            "two X <no value> 116 text <no value>",
        ),
        (
            "{{slice .s 1}} {{slice .s 1 3}} {{slice .l 1 2}} {{slice .l 0 2 3}} {{slice .s}}",
            "ext ex [two] [1 two] text",
        ),
        (
            r#"{{eq 1 1}} {{eq "a" "a" }} {{eq 1 2 3 1}} {{ne 1 2}} {{lt 1 2}} {{le "a" "b"}} {{gt 1.5 1.0}} {{ge 2 2}}"#,
            "true true true true true true true true",
        ),
        (r#"{{eq nil nil}} {{eq .none nil}} {{eq .none 1}} {{ne .none "a"}}"#, "true true false true"),
        (
            r#"{{and 0 (fail "x")}} {{or 1 (fail "x")}} {{and true .s}} {{1 | and 2}} {{0 | or 0}}"#,
            "0 1 text 1 0",
        ),
        ("{{and nil 1}} {{or nil nil}} {{not nil}} {{and .none}}", "<no value> <no value> true <no value>"),
        (
            "{{if .s}}yes{{end}}{{if .e}}yes{{else}}no{{end}}{{if .l}}l{{end}}{{if .none}}x{{else if .n}}n{{else}}z{{end}}",
            "yesnoln",
        ),
        (
            "{{with .m}}{{.x}}{{$.s}}{{end}}{{with .none}}x{{else with .s}}{{.}}{{else}}z{{end}}{{with $q := .s}}{{$q}}{{.}}{{end}}",
            "Xtexttexttexttext",
        ),
        (
            "{{range .l}}[{{.}}]{{end}} {{range $i, $e := .l}}{{$i}}={{$e}},{{end}} {{range $k, $v := .m}}{{$k}}{{$v}} {{end}}",
            "[1][two][3.5][<no value>] 0=1,1=two,2=3.5,3=<no value>, xX y2 ",
        ),
        ("{{range $x := .l}}{{range $x := 2}}{{$x}}{{end}}{{$x}};{{end}}", "011;01two;013.5;01<no value>;"),
        ("{{$i := 0}}{{$e := 0}}{{range $i, $e = .l}}{{end}}{{$i}}{{$e}}", "3<no value>"),
        ("{{$i := 0}}{{range $i = .l}}{{$i}}{{end}}", "1two3.5<no value>"),
        (
            r#"{{define "t"}}<{{.}}{{$}}>{{end}}{{template "t"}}{{template "t" .s}}{{template "t" 1}}"#,
            "<<no value><no value>><texttext><11>",
        ),
        (r#"{{define "a"}}{{template "a"}}{{end}}x"#, "x"),
        ("{{define `r`}}{{if gt . 0}}{{.}}{{end}}{{end}}{{template `r` 3}}", "3"),
        ("{{/* c */}}a{{- /* d */ -}} b", "ab"),
        (r#"{{"a\x41\101\u0041\U00000041\a\b\f\n\r\t\v\\\""}}"#, "aAAAA\u{7}\u{8}\u{c}\n\u{d}\t\u{b}\\\""),
        (r#"{{'a'}} {{'\n'}} {{'\''}} {{'é'}} {{'\x41'}}"#, "97 10 39 233 65"),
        ("{{`raw \n \"x\"`}}", "raw \n \"x\""),
        (
            "{{1}} {{-2}} {{+3}} {{0x1F}} {{0b101}} {{0o17}} {{017}} {{1_000}} {{1.50}} {{1e3}} {{1e21}} {{.5}} {{0x1p4}} {{0x_1F}} {{1.}} {{0x1.8p1}} {{-0}} {{-0.0}}",
            "1 -2 3 31 5 15 15 1000 1.5 1000 1e+21 0.5 16 31 1 3 0 -0",
        ),
        ("{{9223372036854775807}} {{-9223372036854775808}}", "9223372036854775807 -9223372036854775808"),
        ("{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}{{if true}}{{$x := 3}}{{$x}}{{$x = 4}}{{end}}{{$x}}", "1232"),
        ("{{$}}", "map[b:true e: f:1.5 l:[1 two 3.5 <nil>] m:map[x:X y:2] n:42 s:text é:accent]"),
        ("{{.}}", "map[b:true e: f:1.5 l:[1 two 3.5 <nil>] m:map[x:X y:2] n:42 s:text é:accent]"),
        (
            r#"{{. | printf "%v"}} {{.s | printf "%s-%s" "a"}}"#,
            "map[b:true e: f:1.5 l:[1 two 3.5 <nil>] m:map[x:X y:2] n:42 s:text é:accent] a-text",
        ),
        (r#"{{(1)}} {{(.m).x}} {{(index .m "x")}} {{(printf "%s" "a")}} {{((.s))}}"#, "1 X X a text"),
        ("{{.s |}}", "text"),
        ("{{print opt}} {{opt | print}}", " "),
        ("{{.s -}}", "text"),
        ("{{if true -}} x {{- else -}} y {{- end -}} z", "xz"),
        ("{{\n.s\n}}", "text"),
        ("{{upper\n\"a\"}}", "A"),
        (r#"{{printf "%.3q|%x|%X" .s .m .m}}"#, r#""tex"|map[78:58 79:2]|map[78:58 79:2]"#),
        (
            r#"{{printf "%6.3v|%-10v|" .f .s}} {{printf "%10v|%-10v|%05v" .l .m .l}}"#,
            "   1.5|text      | [         1        two        3.5 <nil>]|map[x         :X          y         :2         ]|[00001 00two 003.5 <nil>]",
        ),
        (
            r#"{{printf "%s" .m}} {{printf "%d" .f}} {{printf "%s" true}} {{printf "%d" .l}}"#,
            "map[x:X y:%!s(int=2)] %!d(float64=1.5) %!s(bool=true) [1 %!d(string=two) %!d(float64=3.5) <nil>]",
        ),
        (r#"{{printf "%.2f %5.1f" .n .l}}"#, "%!f(int=42) [%!f(int=    1) %!f(string=    t)   3.5 <nil>]"),
        (r#"{{printf "%v" (printf "%d" 3)}}"#, "3"),
        (
            r#"{{printf "%.100f" 0.1}} {{printf "%.20g" 0.1}} {{printf "%.17e" 0.1}}"#,
            "0.1000000000000000055511151231257827021181583404541015625000000000000000000000000000000000000000000000 0.10000000000000000555 1.00000000000000006e-01",
        ),
        (
            r#"{{printf "%-5d|%5d|% 05d|%+05d" -3 -3 3 3}} {{printf "%20.10d|%-20.10d" 12345 12345}}"#,
            "-3   |   -3| 0003|+0003           0000012345|0000012345          ",
        ),
        (
            r#"{{printf "%#q %#q %+q" "a`b" "tab\t" "\u200b"}} {{printf "%q" "\u200b\u00a0\u00ad\ufeff\u0301a"}}"#,
            "\"a`b\" `tab\t` \"\\u200b\" \"\\u200b\\u00a0\\u00ad\\ufeff́a\"",
        ),
        (r#"{{printf "%!d%%%c" 5 65}} {{printf "%%%d%%" 5}} {{printf "%5%|%-5%"}}"#, "%!!(int=5)d%A %5% %|%"),
        (
            r#"{{printf "%d %d" 1 2 3}} {{printf "" 1 nil "x"}}"#,
            "1 2%!(EXTRA int=3) %!(EXTRA int=1, <nil>, string=x)",
        ),
        (r#"{{printf "%é" 1}}"#, "%!é(int=1)"),
        (
            "{{1e6}} {{1000000.0}} {{123456789.5}} {{1e20}} {{1e-5}} {{0.0001}} {{100000.0}} {{2.0}}",
            "1e+06 1e+06 1.234567895e+08 1e+20 1e-05 0.0001 100000 2",
        ),
        (
            r#"{{printf "%020x|%-20x|%20X|%.70000f|%.70000e|%.70000g|%.70000d" 3.5 3.5 3.5 1.0 1.0 1.5 1 | len}}"#,
            "210077",
        ),
        (
            r#"{{printf "%v %v %.3v %10.2v %5d %x" .f 1e100 3.14159 3.14159 true .b}}"#,
            "1.5 1e+100 3.14        3.1 %!d(bool= true) %!x(bool=true)",
        ),
        (
            r#"{{printf "%s" .none}} {{printf "%d" nil}} {{printf "%v" .none}} {{printf "%5v" nil}}"#,
            "%!s(<nil>) %!d(<nil>) <nil> <nil>",
        ),
    ] {
        assert_eq!(
            render(text, &data(), &Functions).map_err(|e| e.to_string()).as_deref(),
            Ok(expected),
            "{text}"
        );
    }
}

#[test]
fn fails_as_go_fails() {
    for (text, expected) in [
        ("{{.s.x}}", r#"1:4: executing "root" at <.s.x>: can't evaluate field x in type interface {}"#),
        ("{{.m.x.y}}", r#"1:4: executing "root" at <.m.x.y>: can't evaluate field y in type interface {}"#),
        ("{{upper .n}}", r#"1:8: executing "root" at <.n>: wrong type for value; expected string; got int"#),
        ("{{upper 5}}", r#"1:8: executing "root" at <5>: expected string; found 5"#),
        ("{{upper nil}}", r#"1:8: executing "root" at <nil>: cannot assign nil to string"#),
        ("{{upper .none}}", r#"1:8: executing "root" at <.none>: invalid value; expected string"#),
        ("{{upper}}", r#"1:2: executing "root" at <upper>: wrong number of args for upper: want 1 got 0"#),
        (
            r#"{{upper "a" "b"}}"#,
            r#"1:2: executing "root" at <upper>: wrong number of args for upper: want 1 got 2"#,
        ),
        (r#"{{fail "x"}}"#, r#"1:2: executing "root" at <fail "x">: error calling fail: bad x"#),
        (r#"{{"x" | fail}}"#, r#"1:8: executing "root" at <fail>: error calling fail: bad x"#),
        (
            r#"{{split "a,b" "," 1}} {{split "a" "," 1}}"#,
            r#"1:24: executing "root" at <split "a" "," 1>: error calling split: oob"#,
        ),
        (r#"{{split "a" "," "x"}}"#, r#"1:16: executing "root" at <"x">: expected integer; found "x""#),
        (
            r#"{{split "a" "," 1.0}}"#,
            r#"1:2: executing "root" at <split "a" "," 1.0>: error calling split: oob"#,
        ),
        (r#"{{split "a" "," 1.5}}"#, r#"1:16: executing "root" at <1.5>: expected integer; found 1.5"#),
        ("{{len 3}}", r#"1:2: executing "root" at <len 3>: error calling len: len of type int"#),
        (
            "{{index .l 9}}",
            r#"1:2: executing "root" at <index .l 9>: error calling index: index out of range: 9"#,
        ),
        (
            "{{index .l -1}}",
            r#"1:2: executing "root" at <index .l -1>: error calling index: index out of range: -1"#,
        ),
        (
            r#"{{index .l "a"}}"#,
            r#"1:2: executing "root" at <index .l "a">: error calling index: cannot index slice/array with type string"#,
        ),
        (
            "{{index .m 1}}",
            r#"1:2: executing "root" at <index .m 1>: error calling index: value has type int; should be string"#,
        ),
        (
            "{{index nil 1}}",
            r#"1:2: executing "root" at <index nil 1>: error calling index: index of untyped nil"#,
        ),
        (
            "{{index 5 1}}",
            r#"1:2: executing "root" at <index 5 1>: error calling index: can't index item of type int"#,
        ),
        (
            "{{index .none 1}}",
            r#"1:2: executing "root" at <index .none 1>: error calling index: index of untyped nil"#,
        ),
        (
            "{{index .l nil}}",
            r#"1:2: executing "root" at <index .l nil>: error calling index: cannot index slice/array with nil"#,
        ),
        (
            "{{index .m nil}}",
            r#"1:2: executing "root" at <index .m nil>: error calling index: value is nil; should be of type string"#,
        ),
        (
            r#"{{index .m "q" "r"}}"#,
            r#"1:2: executing "root" at <index .m "q" "r">: error calling index: index of nil pointer"#,
        ),
        (
            "{{index .l 3 1}}",
            r#"1:2: executing "root" at <index .l 3 1>: error calling index: index of nil pointer"#,
        ),
        (
            "{{slice .s 3 1}}",
            r#"1:2: executing "root" at <slice .s 3 1>: error calling slice: invalid slice index: 3 > 1"#,
        ),
        (
            "{{slice .s 9}}",
            r#"1:2: executing "root" at <slice .s 9>: error calling slice: index out of range: 9"#,
        ),
        (
            "{{slice .s 1 2 3}}",
            r#"1:2: executing "root" at <slice .s 1 2 3>: error calling slice: cannot 3-index slice a string"#,
        ),
        (
            "{{slice .s 1 2 3 4}}",
            r#"1:2: executing "root" at <slice .s 1 2 3 4>: error calling slice: too many slice indexes: 4"#,
        ),
        (
            "{{slice .l 0 1 2 3}}",
            r#"1:2: executing "root" at <slice .l 0 1 2 3>: error calling slice: too many slice indexes: 4"#,
        ),
        (
            "{{slice .l 2 3 1}}",
            r#"1:2: executing "root" at <slice .l 2 3 1>: error calling slice: invalid slice index: 3 > 1"#,
        ),
        (
            "{{slice 5}}",
            r#"1:2: executing "root" at <slice 5>: error calling slice: can't slice item of type int"#,
        ),
        (
            "{{slice nil}}",
            r#"1:2: executing "root" at <slice nil>: error calling slice: slice of untyped nil"#,
        ),
        (
            r#"{{slice .s "a"}}"#,
            r#"1:2: executing "root" at <slice .s "a">: error calling slice: cannot index slice/array with type string"#,
        ),
        (
            "{{slice .m 1}}",
            r#"1:2: executing "root" at <slice .m 1>: error calling slice: can't slice item of type map[string]interface {}"#,
        ),
        (
            r#"{{eq 1 "a"}}"#,
            r#"1:2: executing "root" at <eq 1 "a">: error calling eq: incompatible types for comparison: int and string"#,
        ),
        ("{{eq 1}}", r#"1:2: executing "root" at <eq 1>: error calling eq: missing argument for comparison"#),
        (
            "{{eq .m 1}}",
            r#"1:2: executing "root" at <eq .m 1>: error calling eq: incompatible types for comparison: map[string]interface {} and int"#,
        ),
        (
            "{{eq 1 .l}}",
            r#"1:2: executing "root" at <eq 1 .l>: error calling eq: incompatible types for comparison: int and []interface {}"#,
        ),
        (
            "{{eq 1 1.0}}",
            r#"1:2: executing "root" at <eq 1 1.0>: error calling eq: incompatible types for comparison: int and float64"#,
        ),
        (
            "{{eq true 1}}",
            r#"1:2: executing "root" at <eq true 1>: error calling eq: incompatible types for comparison: bool and int"#,
        ),
        (
            r#"{{lt 1 "a"}}"#,
            r#"1:2: executing "root" at <lt 1 "a">: error calling lt: incompatible types for comparison: int and string"#,
        ),
        (
            "{{lt true false}}",
            r#"1:2: executing "root" at <lt true false>: error calling lt: invalid type for comparison"#,
        ),
        (
            "{{lt nil 1}}",
            r#"1:2: executing "root" at <lt nil 1>: error calling lt: invalid type for comparison"#,
        ),
        (
            "{{lt 1 nil}}",
            r#"1:2: executing "root" at <lt 1 nil>: error calling lt: invalid type for comparison"#,
        ),
        (
            "{{lt .l .l}}",
            r#"1:2: executing "root" at <lt .l .l>: error calling lt: invalid type for comparison"#,
        ),
        (
            "{{lt .l 1}}",
            r#"1:2: executing "root" at <lt .l 1>: error calling lt: invalid type for comparison"#,
        ),
        (
            "{{gt .none .none}}",
            r#"1:2: executing "root" at <gt .none .none>: error calling gt: invalid type for comparison"#,
        ),
        ("{{lt 1 2 3}}", r#"1:2: executing "root" at <lt>: wrong number of args for lt: want 2 got 3"#),
        (
            r#"{{and 1 0}} {{and 1 "x"}} {{or "" "b"}} {{not 1}} {{and}}"#,
            r#"1:52: executing "root" at <and>: wrong number of args for and: want at least 1 got 0"#,
        ),
        ("{{call nil}}", r#"1:2: executing "root" at <call nil>: error calling call: call of nil"#),
        ("{{call .none}}", r#"1:2: executing "root" at <call .none>: error calling call: call of nil"#),
        (
            "{{range .none}}x{{else}}none{{end}} {{range 3}}{{.}}{{end}} {{range $i := 2}}{{$i}}{{end}} {{range .e}}x{{end}}",
            r#"1:99: executing "root" at <.e>: range can't iterate over "#,
        ),
        ("{{range .s}}x{{end}}", r#"1:8: executing "root" at <.s>: range can't iterate over text"#),
        ("{{range 1.5}}x{{end}}", r#"1:8: executing "root" at <1.5>: range can't iterate over 1.5"#),
        (
            "{{range $i, $x := 3}}x{{end}}",
            r#"1:18: executing "root" at <3>: can't use 3 to iterate over more than one variable"#,
        ),
        ("{{range true}}x{{end}}", r#"1:8: executing "root" at <true>: range can't iterate over true"#),
        (
            r#"{{range .l}}{{if eq . "two"}}{{break}}{{end}}{{.}}{{end}} {{range .l}}{{continue}}x{{end}}"#,
            r#"1:17: executing "root" at <eq . "two">: error calling eq: incompatible types for comparison: int and string"#,
        ),
        ("{{break}}", "1: {{break}} outside {{range}}"),
        ("{{continue}}", "1: {{continue}} outside {{range}}"),
        ("{{range .l}}{{break 1}}{{end}}", r#"1: unexpected "1" in {{break}}"#),
        (
            r#"{{define "t"}}{{fail "in t"}}{{end}}a{{template "t" .}}"#,
            r#"1:16: executing "t" at <fail "in t">: error calling fail: bad in t"#,
        ),
        (
            r#"{{block "b" .m}}{{.x}}{{end}} {{define "b2"}}x{{end}}{{define "b2"}}y{{end}}"#,
            r#"1: template: multiple definition of template "b2""#,
        ),
        (
            r#"{{define "b"}}1{{end}}{{block "b" .}}2{{end}}"#,
            r#"1: template: multiple definition of template "b""#,
        ),
        (
            r#"{{template "nope"}}"#,
            r#"1:11: executing "root" at <{{template "nope"}}>: template "nope" not defined"#,
        ),
        (
            r#"{{template "nope" .s | upper}}"#,
            r#"1:11: executing "root" at <{{template "nope" .s | upper}}>: template "nope" not defined"#,
        ),
        ("{{template nope}}", r#"1: unexpected "nope" in template clause"#),
        (
            r#"{{template "x" "y" "z"}}"#,
            r#"1:11: executing "root" at <{{template "x" "y" "z"}}>: template "x" not defined"#,
        ),
        (r#"{{define "x"}}{{else}}{{end}}"#, "1: unexpected {{else}} in define clause"),
        ("{{define x}}", r#"1: unexpected "x" in define clause"#),
        (r#"{{define "x"}}"#, "1: unexpected EOF"),
        (r#"{{define "x" .}}{{end}}"#, "1: unexpected <.> in define clause"),
        (r#"{{block "x"}}{{end}}"#, "1: missing value for block clause"),
        (r#"{{block "x" .}}{{else}}{{end}}"#, "1: unexpected {{else}} in block clause"),
        ("{{if}}{{end}}", "1: missing value for if"),
        ("{{if .s}}", "1: unexpected EOF"),
        ("{{if .s}}{{else}}{{else}}{{end}}", "1: expected end; found {{else}}"),
        ("{{end}}", "1: unexpected {{end}}"),
        ("{{else}}", "1: unexpected {{else}}"),
        ("{{else if .s}}", "1: unexpected {{else}}"),
        ("{{range}}{{end}}", "1: missing value for range"),
        ("{{with}}{{end}}", "1: missing value for with"),
        ("{{if .s}}{{else with .s}}{{end}}{{end}}", "1: unexpected <with> in input"),
        ("{{with .s}}{{else if .s}}{{end}}", "1: unexpected <if> in input"),
        ("{{range .l}}{{else if .s}}{{end}}", "1: unexpected <if> in input"),
        ("{{}}", "1: missing value for command"),
        ("{{ }}", "1: missing value for command"),
        ("{{- -}}", r#"1: illegal number syntax: "-""#),
        ("{{--}}", r#"1: bad number syntax: "--""#),
        ("{{-}}", r#"1: illegal number syntax: "-""#),
        ("{{/* c}}", "1: unclosed comment"),
        ("{{/* c */ }}", "1: comment ends before closing delimiter"),
        ("{{/* c */", "1: comment ends before closing delimiter"),
        ("{{ /* c */}}", r#"1: unexpected "/" in command"#),
        (r#"{{"a"#, "1: unterminated quoted string"),
        (r#"{{"a\q"}}"#, "1: invalid syntax"),
        (r#"{{"a\'"}}"#, "1: invalid syntax"),
        (r#"{{"\ud800"}}"#, "1: invalid syntax"),
        ("{{'ab'}}", "1: malformed character constant: 'ab'"),
        ("{{''}}", "1: invalid syntax"),
        (r#"{{'\"'}}"#, "1: invalid syntax"),
        ("{{'a}}", "1: unterminated character constant"),
        ("{{`raw", "1: unterminated raw quoted string"),
        (
            "{{9223372036854775808}}",
            r#"1:2: executing "root" at <9223372036854775808>: 9223372036854775808 overflows int"#,
        ),
        (
            "{{18446744073709551615}}",
            r#"1:2: executing "root" at <18446744073709551615>: 18446744073709551615 overflows int"#,
        ),
        ("{{18446744073709551616}}", r#"1: integer overflow: "18446744073709551616""#),
        ("{{1e400}}", r#"1: illegal number syntax: "1e400""#),
        ("{{08}}", r#"1: integer overflow: "08""#),
        ("{{1__0}}", r#"1: illegal number syntax: "1__0""#),
        ("{{1_}}", r#"1: illegal number syntax: "1_""#),
        ("{{0x}}", r#"1: illegal number syntax: "0x""#),
        ("{{0b2}}", r#"1: bad number syntax: "0b2""#),
        ("{{1a}}", r#"1: bad number syntax: "1a""#),
        ("{{1+2}}", r#"1: bad number syntax: "1+2""#),
        ("{{1e}}", r#"1: illegal number syntax: "1e""#),
        ("{{1.5.5}}", r#"1: unexpected ".5" in operand"#),
        (
            r#"{{split "a" "," 1e0}}{{split "a" "," 0x0}}{{split "a" "," 'a'}}"#,
            r#"1:2: executing "root" at <split "a" "," 1e0>: error calling split: oob"#,
        ),
        ("{{$x}}", r#"1: undefined variable "$x""#),
        ("{{$x = 1}}", r#"1:7: executing "root" at <1>: undefined variable: $x"#),
        ("{{$x := $x}}", r#"1:8: executing "root" at <$x>: undefined variable: $x"#),
        ("{{$x, $y := .l}}", "1: too many declarations in command"),
        ("{{range $x, 1 := .l}}{{end}}", "1: range can only initialize variables"),
        ("{{range $x, $y, $z := .l}}{{end}}", "1: too many declarations in range"),
        ("{{range $x, $y}}{{end}}", r#"1: undefined variable "$y""#),
        (
            "{{$x := 1 | upper}}",
            r#"1:12: executing "root" at <upper>: wrong type for value; expected string; got int"#,
        ),
        ("{{if $x := .s}}{{$x}}{{else}}{{$x}}{{end}}{{$x}}", r#"1: undefined variable "$x""#),
        (
            "{{$.s}} {{$.m.x}} {{$x := .m}}{{$x.x}} {{$x.x.z}}",
            r#"1:43: executing "root" at <$x.x.z>: can't evaluate field z in type interface {}"#,
        ),
        ("{{1 | 2}}", "1: non executable command in pipeline stage 2"),
        (
            "{{upper | upper}}",
            r#"1:2: executing "root" at <upper>: wrong number of args for upper: want 1 got 0"#,
        ),
        ("{{.s | .n}}", r#"1:7: executing "root" at <.n>: n is not a method but has arguments"#),
        (r#"{{.s "a"}}"#, r#"1:2: executing "root" at <.s>: s is not a method but has arguments"#),
        (r#"{{.m.x "a"}}"#, r#"1:4: executing "root" at <.m.x>: x is not a method but has arguments"#),
        (r#"{{.none "a"}}"#, r#"1:2: executing "root" at <.none>: none is not a method but has arguments"#),
        ("{{$.s 1}}", r#"1:3: executing "root" at <$.s>: s is not a method but has arguments"#),
        ("{{nil}}", r#"1:2: executing "root" at <nil>: nil is not a command"#),
        ("{{(.s).x}}", r#"1:3: executing "root" at <.s>: can't evaluate field x in type string"#),
        ("{{(nil).x}}", r#"1:3: executing "root" at <nil>: nil is not a command"#),
        ("{{(1).x}}", r#"1:3: executing "root" at <1>: can't evaluate field x in type int"#),
        ("{{1.x}}", r#"1: bad number syntax: "1.x""#),
        (r#"{{"a".x}}"#, r#"1: unexpected . after term "\"a\"""#),
        ("{{nil.x}}", r#"1: unexpected . after term "nil""#),
        ("{{true.x}}", r#"1: unexpected . after term "true""#),
        ("{{.s.}}", "1: unexpected <.> in operand"),
        ("{{..s}}", r#"1: unexpected . after term ".""#),
        ("{{.s..x}}", "1: unexpected <.> in operand"),
        ("{{$.}}", "1: unexpected <.> in operand"),
        ("{{(1}}", "1: unclosed left paren"),
        ("{{1)}}", "1: unexpected right paren"),
        ("{{()}}", "1: missing value for parenthesized pipeline"),
        ("{{(|)}}", r#"1: unexpected "|" in parenthesized pipeline"#),
        ("{{|}}", r#"1: unexpected "|" in command"#),
        ("{{.s | | upper}}", r#"1: unexpected "|" in command"#),
        ("{{.s || upper}}", r#"1: unexpected "|" in command"#),
        ("{{,}}", r#"1: unexpected "," in command"#),
        ("{{.s,}}", r#"1: unexpected "," in operand"#),
        ("{{:}}", "1: expected :="),
        ("{{.s := 1}}", r#"1: unexpected ":=" in operand"#),
        ("{{é}} {{.é}}", r#"1: function "é" not defined"#),
        ("{{\u{263a}}}", "1: unrecognized character in action: U+263A '\u{263a}'"),
        ("{{.s\u{263a}}}", "1: bad character U+263A '\u{263a}'"),
        (r#"{{ "a" }}{{ 'a' }}{{"a""b"}}"#, r#"1: unexpected "\"b\"" in operand"#),
        (r#"{{print "a""b"}}"#, r#"1: unexpected "\"b\"" in operand"#),
        ("{{print(1)}} {{print (1)(2)}} {{print .s.x}}", r#"1: unexpected "(" in operand"#),
        ("{{unknown}}", r#"1: function "unknown" not defined"#),
        ("{{unknown .s}}", r#"1: function "unknown" not defined"#),
        ("{{if unknown}}{{end}}", r#"1: function "unknown" not defined"#),
        (
            "{{printf}}",
            r#"1:2: executing "root" at <printf>: wrong number of args for printf: want at least 1 got 0"#,
        ),
        ("{{printf 1}}", r#"1:9: executing "root" at <1>: expected string; found 1"#),
        ("{{printf .n}}", r#"1:9: executing "root" at <.n>: wrong type for value; expected string; got int"#),
        (
            "{{print upper}}",
            r#"1:8: executing "root" at <upper>: wrong number of args for upper: want 1 got 0"#,
        ),
        (
            "{{print (upper)}}",
            r#"1:9: executing "root" at <upper>: wrong number of args for upper: want 1 got 0"#,
        ),
        (
            "{{index opt 1}}",
            r#"1:2: executing "root" at <index opt 1>: error calling index: index out of range: 1"#,
        ),
        (r#" a {{- 1 -}} b {{-1}} {{- -1}} {{1 -}} {{"x"-}}"#, r#"1: unexpected "-" in operand"#),
        ("{{1-}}", r#"1: bad number syntax: "1-""#),
        ("a\n{{fail \"x\"}}\nb", r#"2:2: executing "root" at <fail "x">: error calling fail: bad x"#),
        (
            "a\n\n  {{.s.q}}",
            r#"3:6: executing "root" at <.s.q>: can't evaluate field q in type interface {}"#,
        ),
        ("{{if true}}\n{{upper 1}}\n{{end}}", r#"2:8: executing "root" at <1>: expected string; found 1"#),
        ("{{.s\n", "2: unclosed action started at root:1"),
        ("{{\"unterminated\n\"}}", "1: unterminated quoted string"),
        ("{{`raw\n` | fail}}", "2:4: executing \"root\" at <fail>: error calling fail: bad raw\n"),
        ("\n{{if}}", "2: missing value for if"),
        ("{{if true}}\n\n", "3: unexpected EOF"),
        ("{{/*\n\n", "1: unclosed comment"),
    ] {
        let error = render(text, &data(), &Functions).unwrap_err().to_string();
        assert_eq!(error.strip_prefix("template: root:"), Some(expected), "{text}");
    }
}

/// Whatever a text asks for, it ends soon and with an error that says why.
#[test]
fn everything_is_bounded() {
    let doubling = "{{$s := `0123456789`}}{{range 40}}{{$s = printf `%s%s` $s $s}}{{end}}".to_string();
    let replacing = "{{$s := `0123456789`}}{{range 40}}{{$s = html $s $s `&`}}{{end}}{{$s}}".to_string();
    let wide = format!("{{{{printf `{}` 1}}}}", "%1000000[1]d".repeat(1000));
    for (text, expected) in [
        ("{{range 1000000000}}{{end}}".to_string(), "does too much work"),
        ("{{range 1000000000}}{{range 1000000000}}x{{end}}{{end}}".to_string(), "does too much work"),
        (
            "{{define `a`}}{{template `a`}}{{end}}{{template `a`}}".to_string(),
            "exceeded maximum template depth",
        ),
        (doubling, "does too much work"),
        (replacing, "does too much work"),
        (wide, "longer than 64 MiB"),
        ("{{$s := printf `%10000000d` 1}}{{range 10}}{{$s}}{{end}}".to_string(), "larger than 64 MiB"),
        (format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000)), "nest deeper than 100"),
        ("{{if 1}}".repeat(100_000), "nest deeper than 100"),
        ("{{define `x`}}".repeat(1000), "unexpected <define> in command"),
        ((0..2000).map(|n| format!("{{{{$v{n} := 1}}}}")).collect(), "more than 1000 variables"),
    ] {
        let error = render(&text, &Data::Nil, &Functions).unwrap_err().to_string();
        assert!(error.contains(expected), "{}: {error}", &text[..text.len().min(60)]);
    }
    // Chains are no nesting.
    let chain = format!("{{{{if 0}}}}{}{{{{else}}}}end{{{{end}}}}", "{{else if 0}}".repeat(20_000));
    assert_eq!(render(&chain, &Data::Nil, &NoFunctions).unwrap(), "end");
}

#[test]
fn a_fixpoint_is_found_or_refused() {
    let data = Data::map([("a", "{{.b}}{{.b}}"), ("b", "x"), ("again", "{{.again}}!")]);
    assert_eq!(render_fixpoint("{{.a}}", &data, &NoFunctions).unwrap(), "xx");
    let error = render_fixpoint("{{.again}}", &data, &NoFunctions).unwrap_err().to_string();
    assert!(error.contains("still changes"), "{error}");
}

#[test]
fn bytes_and_complex_numbers() {
    let text = |template: &str| {
        GoTemplate::parse(template, &Functions)
            .and_then(|t| t.render(&data(), &Functions))
            .map_err(|e| e.to_string())
    };
    for (template, want) in [
        ("{{print 1i 2.5i}}", "(0+1i) (0+2.5i)"),
        ("{{index `a,b` 1 | printf \"%s\"}}", "%!s(uint8=44)"),
        (
            "{{print 1+2i}} {{print -1-2.5e+1i}} {{print 0i}} {{print 0x1p4i}}",
            "(1+2i) (-1-25i) (0+0i) (0+16i)",
        ),
        (
            "{{printf \"%.1f %+v %d %08.2f|%8.1f|%#v|%x|%T\" 2i 3i 4i 5i 6i 7i 8i 9i}}",
            "(0.0+2.0i) (0+3i) %!d(complex128=(0+4i)) (00000.00+0005.00i)|(     0.0    +6.0i)|(0+7i)|(0x0p+00+0x1p+03i)|complex128",
        ),
        (
            "{{with index `abc` 0}}{{printf \"%d %c %x %q %#v %T %5d|%05d %t\" . . . . . . . . .}}{{end}}",
            "97 a 61 'a' 0x61 uint8    97|00097 %!t(uint8=97)",
        ),
        ("{{eq (index `a` 0) 97}} {{lt (index `a` 0) 98}} {{eq 1i 1i}} {{ne 1i 2i}}", "true true true true"),
        ("{{index `abc` (index \"\\x01\" 0)}}{{if 0i}}y{{else}}n{{end}}{{if 1i}}y{{end}}", "98ny"),
        ("{{range (index \"\\x03\" 0)}}[{{printf \"%T%v\" . .}}]{{end}}", "[uint80][uint81][uint82]"),
        (
            "{{print 1_0i 010i}} {{print 1i `a` 2i}} {{urlquery 1i}}",
            "(0+10i) (0+10i) (0+1i)a(0+2i) %280%2B1i%29",
        ),
    ] {
        assert_eq!(text(template).as_deref(), Ok(want), "{template}");
    }
    for (template, want) in [
        ("{{lt 1i 2i}}", "invalid type for comparison"),
        ("{{eq 1i 1}}", "incompatible types for comparison: complex128 and int"),
        ("{{eq (index `a` 0) 97.0}}", "incompatible types for comparison: uint8 and float64"),
        ("{{upper (index `a` 0)}}", "wrong type for value; expected string; got uint8"),
        ("{{index `abc` 0i}}", "cannot index slice/array with type complex128"),
        ("{{print 1+2i3}}", "bad number syntax: \"1+2i3\""),
        ("{{print 1i2}}", "bad number syntax: \"1i2\""),
        ("{{print 9i-9}}", "bad number syntax: \"9i-9\""),
        ("{{print 0b1i}}", "illegal number syntax: \"0b1i\""),
        ("{{print 1e400i}}", "illegal number syntax: \"1e400i\""),
    ] {
        let found = text(template).unwrap_err();
        assert!(found.contains(want), "{template}: {found}");
    }
}
