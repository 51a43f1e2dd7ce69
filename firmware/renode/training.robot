*** Settings ***
Documentation    The demo learns on each board that runs in Renode.
Resource         training.resource

*** Variables ***
${STEPS}         100

*** Test Cases ***
The Demo Learns On The F446RE
    The Demo Should Learn    renode_f446re

The Demo Learns On The F767ZI
    The Demo Should Learn    renode_f767zi

*** Keywords ***
The Demo Should Learn
    [Arguments]    ${board}
    ${summary}=    Train On Board    ${board}    ${STEPS}
    Run Should Be Complete    ${summary}    ${STEPS}
    Accuracy Should Have Risen    ${summary}
