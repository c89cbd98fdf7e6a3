package main

import (
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"scn.alt/scn/daemon"
)

func (a *app) upCommand() *cobra.Command {
	var check, noTUN bool
	var overrides []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "run the daemon in the foreground",
		Long: `up runs the node until it is told to stop (Ctrl-C, SIGTERM), and prints "ready"
when sessions, names and unmodified applications all work. SIGHUP reads the
settings again and changes what can change without dropping sessions.

Every key of the settings file is a flag too: [tun] name is --tun-name.
With --check everything is validated and nothing is touched.`,
		Example: example(
			"scn --dir /var/lib/scn up",
			"scn up --check",
			"scn up --no-tun --log-level debug"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.directory()
			if err != nil {
				return err
			}
			if noTUN {
				overrides = append(overrides, "tun.enabled = false")
			}
			cfg := daemon.Config{Dir: dir, Overrides: strings.Join(overrides, "\n"), LogOutput: a.stderr}
			if check {
				if err := daemon.Check(cfg); err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, "settings, keys, network file and host are fine")
				return nil
			}
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			cfg.Reload = hangup
			cfg.Ready = func() { fmt.Fprintln(a.stdout, "ready") }
			return daemon.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&check, "check", false, "validate everything, touch nothing")
	f.BoolVar(&noTUN, "no-tun", false, "no TUN device and no DNS for unmodified applications (needs no root)")
	addSettings(f, &overrides)
	return cmd
}

// addSettings makes a flag of every key of the settings, so that none is forgotten.
// Given ones are appended to overrides as lines of TOML.
func addSettings(f *pflag.FlagSet, overrides *[]string) {
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			field := t.Field(i)
			key := prefix + field.Tag.Get("toml")
			if field.Type.Kind() == reflect.Struct {
				walk(field.Type, key+".")
				continue
			}
			if field.Type.Kind() == reflect.Map {
				continue // petnames and links have keys of their own
			}
			name := strings.NewReplacer(".", "-", "_", "-").Replace(key)
			f.Var(&settingFlag{key: key, kind: field.Type.Kind(), overrides: overrides}, name, field.Tag.Get("help"))
			if field.Type.Kind() == reflect.Bool {
				f.Lookup(name).NoOptDefVal = "true"
			}
		}
	}
	walk(reflect.TypeFor[daemon.Settings](), "")
}

// settingFlag is one key of the settings as a flag.
type settingFlag struct {
	key       string
	kind      reflect.Kind
	value     string
	overrides *[]string
}

// String implements pflag.Value.
func (s *settingFlag) String() string { return s.value }

// Type implements pflag.Value.
func (s *settingFlag) Type() string {
	switch s.kind {
	case reflect.Bool:
		return ""
	case reflect.Int64:
		return "N"
	case reflect.Slice:
		return "A,B"
	default:
		return "TEXT"
	}
}

// Set implements pflag.Value.
func (s *settingFlag) Set(text string) error {
	s.value = text
	switch s.kind {
	case reflect.Bool, reflect.Int64:
	case reflect.Slice:
		var quoted []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				quoted = append(quoted, fmt.Sprintf("%q", item))
			}
		}
		text = "[" + strings.Join(quoted, ", ") + "]"
	default:
		text = fmt.Sprintf("%q", text)
	}
	*s.overrides = append(*s.overrides, s.key+" = "+text)
	return nil
}
