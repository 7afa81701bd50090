package config

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Corner cases of java.util.Properties.
func TestParsePropertiesLikeJava(t *testing.T) {
	for text, want := range map[string][]string{
		"a=b":                         {"1 a=b"},
		"a = b ":                      {"1 a=b "},
		"a:b\na b\na\tb\na\fb":        {"1 a=b", "2 a=b", "3 a=b", "4 a=b"},
		"a  :  b":                     {"1 a=b"},
		"a = = b":                     {"1 a== b"},
		"a":                           {"1 a="},
		"a=":                          {"1 a="},
		"=b":                          {"1 =b"},
		"  \t# no\n! no\n\n a=b":      {"4 a=b"},
		"a=b\\\n   c\\\n  # d\ne=f":   {"1 a=bc# d", "4 e=f"},
		"a=b\\\\\nc=d":                {"1 a=b\\", "2 c=d"},
		"a=b\\\n\nc=d":                {"1 a=b", "3 c=d"},
		"a=b\\":                       {"1 a=b"},
		"\\\n# no\na=b":               {"3 a=b"},
		"\\":                          {"1 ="},
		"a\\=b\\:c\\ d=e":             {"1 a=b:c d=e"},
		`a=\t|\n|\.|\\|\u0041|\u20AC`: {"1 a=\t|\n|.|\\|A|€"},
		"a=\xe9":                      {"1 a=é"},
		"a=é":                         {"1 a=Ã©"},
		"a=b\r\nc=d\re=f\\\r\n  g":    {"1 a=b", "2 c=d", "3 e=fg"},
		"":                            nil,
	} {
		all, bad := parseProperties([]byte(text))
		var got []string
		for _, p := range all {
			got = append(got, fmt.Sprintf("%d %s=%s", p.line, p.key, p.value))
		}
		if diff := cmp.Diff(want, got); diff != "" || len(bad) > 0 {
			t.Errorf("%q: %v -want +got\n%s", text, bad, diff)
		}
	}
	for _, text := range []string{`a=\u12`, `a=\uxyzw`, `a=\u+123`, `a\u=b`} {
		if _, bad := parseProperties([]byte(text)); len(bad) != 1 || bad[0].Line != 1 {
			t.Errorf("%q: %v", text, bad)
		}
	}
}

func TestJavaPatterns(t *testing.T) {
	for pattern, names := range map[string]string{ // matching names | names that do not match
		`.*`:                    "a a.b | ",
		`orders`:                "orders | orders1 my-orders",
		`a|b.*`:                 "a bc | ab",
		`[\-\.a-c]+`:            "a-b. | d",
		`\Qa.b\E|c`:             "a.b c | axb",
		`\u0061\x62{2,3}?`:      "abb abbb | ab",
		`(?i)abc|(?:x)(y)`:      "ABC XY | z",
		`(?<name>a)\d\w\pL`:     "a1bc | a",
		`[^a&]b`:                "cb | ab &b",
		`\p{Alpha}[\p{Digit}.]`: "a1 a. | 11 ab",
		`\P{Upper}[^\P{Alnum}]`: "a1 .b | A1 a.",
	} {
		translated, why := javaPattern(pattern)
		if why != "" {
			t.Errorf("%s: %s", pattern, why)
			continue
		}
		re := regexp.MustCompile("^(?:" + translated + ")$")
		yes, no, _ := strings.Cut(names, "|")
		for _, name := range strings.Fields(yes) {
			if !re.MatchString(name) {
				t.Errorf("%s does not match %s", pattern, name)
			}
		}
		for _, name := range strings.Fields(no) {
			if re.MatchString(name) {
				t.Errorf("%s matches %s", pattern, name)
			}
		}
	}
	for _, pattern := range []string{
		`(?!a).*`, `(?=a).*`, `.*(?<=a)`, `.*(?<!a)`, `(?>a)b`, `(a)\1`, `(?<n>a)\k<n>`, `a*+`, `a++`, `a?+`, `a{2}+`, `[a[b]]`,
		`[a-z&&[^b]]`, `(?x)a b`, `(?i)*a`, `a{`, `a{,2}`, `{a`, `*`, `(a`, `a)`, `[a`, `a\`, `\Ra`, `\ha`, `\Z`, `\cA`, `\e`, `\u12`, `\b{g}`,
	} {
		if translated, why := javaPattern(pattern); why == "" {
			t.Errorf("%s is translated to %s", pattern, translated)
		}
	}
}
