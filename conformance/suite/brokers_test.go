package suite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// mosquitto holds a publisher and a subscriber through all moves. Both would
// connect again by themselves, and the broker would log it.
func mosquitto() program {
	var broker *dialogue
	return program{
		name:  "mosquitto",
		needs: []string{"mosquitto", "mosquitto_pub", "mosquitto_sub"},
		serve: func(t *testing.T, w *world) {
			config := writeFile(t, t.TempDir(), "mosquitto.conf",
				"listener 1883 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\nlog_dest stderr\nlog_type all\n", 0o644)
			broker = talk(t, w.provider.host.Command(context.WithoutCancel(t.Context()), "mosquitto", "-c", config))
			if _, err := broker.expect("running", 0); err != nil {
				t.Fatal(err)
			}
			w.serve(t, "news", "1883=tcp://127.0.0.1:1883")
		},
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			ctx := context.WithoutCancel(t.Context())
			listen := talk(t, w.client.host.Command(ctx, "mosquitto_sub", "-h", "news.top", "-i", "listener", "-q", "1", "-k", "5", "-t", "news"))
			if _, err := broker.expect("SUBSCRIBE from listener", 0); err != nil {
				t.Fatal(err)
			}
			speak := talk(t, w.client.host.Command(ctx, "mosquitto_pub", "-h", "news.top", "-i", "speaker", "-q", "1", "-k", "5", "-t", "news", "-l"))
			check := func(stage int) error {
				message := fmt.Sprintf("news of stage %d", stage)
				if err := speak.say(message); err != nil {
					return err
				}
				_, err := listen.expect(message, 0)
				return err
			}
			finish := func() error {
				connected := 0
				var errs []error
				for _, line := range broker.heard() {
					if strings.Contains(line, "New client connected") {
						connected++
					}
					if strings.Contains(line, "disconnect") || strings.Contains(line, "error") || strings.Contains(line, "timeout") {
						errs = append(errs, fmt.Errorf("the broker says: %s", line))
					}
				}
				if connected != 2 {
					errs = append(errs, fmt.Errorf("%d clients connected, want two", connected))
				}
				errs = append(errs, speak.hangUp())
				_ = listen.interrupt() // its exit code says that it was interrupted
				_ = broker.interrupt()
				return errors.Join(errs...)
			}
			return check, finish
		},
	}
}

// redis talks through one redis-cli. It would connect again by itself, but as
// another client.
func redis() program {
	return program{
		name:  "redis-cli",
		needs: []string{"redis-server", "redis-cli"},
		serve: func(t *testing.T, w *world) {
			must(t, w.provider.host.Command(t.Context(), "redis-server", "--port", "6379", "--bind", "127.0.0.1",
				"--save", "", "--appendonly", "no", "--dir", t.TempDir()).Start())
			eventually(t, 20*time.Second, func() error {
				return w.provider.host.Command(t.Context(), "redis-cli", "-h", "127.0.0.1", "ping").Run()
			})
			w.serve(t, "redis", "6379=tcp://127.0.0.1:6379")
		},
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			cli := talk(t, w.client.host.Command(context.WithoutCancel(t.Context()), "redis-cli", "-h", "redis.top"))
			check := func(stage int) error {
				value := fmt.Sprintf("value of stage %d", stage)
				for _, line := range []string{"SET key \"" + value + "\"", "CLIENT ID", "GET key"} {
					if err := cli.say(line); err != nil {
						return err
					}
				}
				_, err := cli.expect(value, 0)
				return err
			}
			finish := func() error {
				if err := cli.hangUp(); err != nil {
					return err
				}
				clients := make(map[string]bool)
				lines := cli.heard()
				for i, line := range lines {
					if strings.HasPrefix(line, "value of stage") && i > 0 {
						clients[lines[i-1]] = true
					}
				}
				if len(clients) != 1 {
					return fmt.Errorf("redis knew it as clients %v: %q", clients, lines)
				}
				return nil
			}
			return check, finish
		},
	}
}
