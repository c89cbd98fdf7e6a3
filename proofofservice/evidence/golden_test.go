package evidence

// What TestGoldenPlan and TestGoldenEpoch make. They change with the rules, and a
// change of the rules is a new version of them.
const (
	goldenSeed    = "2c8917f9bf7513f8b483dfab04c7142f228817e30fd586b6aadf5ceeffa03d94"
	goldenOutput  = "f9845c23ebf9c8558fc844b2c42c99ba"
	goldenProof   = "40ff68231311b81e58be82e5590aa94f"
	goldenRoster  = "1a7528e93214d4362b96539983abfbb3a657673dfbc11e1828be626231909499"
	goldenPlan    = "36c9a79a103487243973dba78e5a1a72f8c81c923b7b3b2c743d9ef356ebd311"
	goldenReveals = "310d2a162185b1694b20c7a2702450fe286c42b8d1cc23f7e36cba4779969b0f"
	goldenJudged  = "a3cb12c1a78e786662d65310f58ceb4744bd7b58e01ef8d675bd56869c9bc895"
)
