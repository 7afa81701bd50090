import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * Prints what Java selects with lists of expressions, as MirrorMaker 2 reads them: java Answers.java > answers.txt
 *
 * The first line has the names. Each other line has a list, a tab, and a bit for each name, in hexadecimal digits from the first name on, or the word "invalid".
 */
public class Answers {
    static final String[] WORDS = {"orders", "test", "pay", "Test", "internal", "retry", "x1", "a"};
    static final Random RANDOM = new Random(20261128);

    static String one(String... of) {
        return of[RANDOM.nextInt(of.length)];
    }

    static String word() {
        return one("orders", "test", "pay", "internal", "retry", "x", "a", "t", "s", "te", "1", "ORDERS", "\\.", "-", "\\.internal", "-retry", "test-", "pay\\.", "\\d", "[a-p]");
    }

    static String simple() {
        switch (RANDOM.nextInt(9)) {
            case 0: return ".*";
            case 1: return word() + ".*";
            case 2: return ".*" + word();
            case 3: return word();
            case 4: return "(" + word() + "|" + word() + ").*";
            case 5: return "[a-zA-Z0-9._-]+";
            case 6: return ".*" + word() + ".*";
            case 7: return word() + "|" + word() + ".*";
            default: return ".+";
        }
    }

    static String sought() {
        switch (RANDOM.nextInt(12)) {
            case 0: return word() + "$";
            case 1: return ".*" + word() + "$";
            case 2: return ".*" + word();
            case 3: return word() + "|" + word();
            case 4: return "(?:" + word() + "|" + word() + ")$";
            case 5: return "(" + word() + "|" + word() + "$)";
            case 6: return word() + ".*";
            case 7: return "^" + word();
            case 8: return one("", "a?", ".*", "[A-Z]", "\\w+\\.", "(?i)TEST", "(?i:test)a?", "\\btest\\b", "a|", "x{1}", "\\Qa.b\\E", "$");
            default: return word();
        }
    }

    static String look() {
        String x = sought();
        switch (RANDOM.nextInt(26)) {
            case 0: return "(?!" + x + ")" + simple();
            case 1: return "^(?!" + x + ")" + simple() + "$";
            case 2: return "^(?!" + x + ").*";
            case 3: return "(?!" + x + ").*";
            case 4: return "^(?!" + x + ")(?!" + sought() + ").*$";
            case 5: return ".*(?<!" + word() + ")";
            case 6: return "^.*(?<!" + word() + "|" + word() + ")$";
            case 7: return "^((?!" + x + ").)*$";
            case 8: return "((?!" + x + ").)+";
            case 9: return "^(?:(?!" + x + ").)*$";
            case 10: return word() + "((?!" + x + ").)*";
            case 11: return word() + "(?!" + x + ").*";
            case 12: return "(?=" + x + ").*";
            case 13: return "(?=" + x + ")" + simple();
            case 14: return ".*(?<=" + word() + ")";
            case 15: return ".*(?<!" + word() + ")" + word();
            case 16: return "(?i)(?!" + x + ").*";
            case 17: return "(?!" + x + ").*|" + simple();
            case 18: return "(^(?!" + x + ").*$)";
            case 19: return ".*(?!" + x + ")";
            case 20: return ".*(?!" + x + ").*";
            case 21: return "((?!" + x + ")[a-z.])*";
            case 22: return "(" + word() + "|(?!" + x + ").*)";
            case 23: return "(?!" + x + ").*(?<!" + word() + ")";
            case 24: return "(?!" + x + ")((?!" + sought() + ").)*";
            default: return word() + "(?!" + x + ")";
        }
    }

    static String list() {
        List<String> items = new ArrayList<>();
        int n = 1 + (RANDOM.nextInt(3) == 0 ? RANDOM.nextInt(3) : 0);
        int at = RANDOM.nextInt(n);
        for (int i = 0; i < n; i++) {
            String item = i == at && RANDOM.nextInt(8) > 0 ? look() : simple();
            if (RANDOM.nextInt(12) == 0) item = one("(?i)", "(?-i)", "(?s)", "(?i:") + item;
            items.add(item);
        }
        return String.join(one(",", ", "), items);
    }

    static Set<String> names() {
        Set<String> names = new LinkedHashSet<>();
        for (String a : WORDS) {
            names.add(a);
            for (String separator : new String[] {".", "-", ""}) {
                for (String b : WORDS) names.add(a + separator + b);
            }
        }
        for (String name : new String[] {"ORDERS", "orders.v1.internal", "orders.test.internal", "test-orders-retry", "a.b", "a.b.c", "A", "s", "t", "1", "pay.orders.test", "x", "-", "__a"}) names.add(name);
        return names;
    }

    public static void main(String[] args) {
        Set<String> names = names();
        System.out.println(String.join(" ", names));
        Set<String> lists = new LinkedHashSet<>();
        while (lists.size() < 1500) lists.add(list());
        for (String list : lists) {
            StringBuilder line = new StringBuilder(list).append('\t');
            try {
                List<String> items = new ArrayList<>(Arrays.asList(list.trim().split("\\s*,\\s*", -1)));
                items.removeIf(String::isEmpty);
                Pattern pattern = Pattern.compile(String.join("|", items));
                int bits = 1; // a 1 in front of up to four bits
                for (String name : names) {
                    bits = bits << 1 | (pattern.matcher(name).matches() ? 1 : 0);
                    if (bits < 16) continue;
                    line.append(Integer.toHexString(bits & 15));
                    bits = 1;
                }
                while (bits > 1 && bits < 16) bits <<= 1;
                if (bits >= 16) line.append(Integer.toHexString(bits & 15));
            } catch (PatternSyntaxException e) {
                line.append("invalid");
            }
            System.out.println(line);
        }
    }
}
