package verdict

import (
	"context"

	"scn.alt/scn/daemon/program"
)

// Judge answers a question; ctx ends when the answer is of no use any more.
type Judge func(ctx context.Context, q Question) (Answer, error)

// Program returns a Judge that runs a command for each question, as the package
// comment says. When ctx ends, the command is killed with all its children.
func Program(command []string) Judge {
	return func(ctx context.Context, q Question) (Answer, error) {
		input, err := q.encode()
		if err != nil {
			return Answer{}, err
		}
		output, err := program.Run(ctx, command, input)
		if err != nil {
			return Answer{}, err
		}
		return parseAnswer(output)
	}
}
